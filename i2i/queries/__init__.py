"""One module for each file in sql/, one function for each block.

A query function takes the connection first and everything else by keyword, runs one statement and
returns frozen rows or a row count. It never opens, commits or rolls back a transaction.
"""
