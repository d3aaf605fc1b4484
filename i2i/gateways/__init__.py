"""Doors to the outside: fal over HTTP, and the store that keeps image bytes."""
