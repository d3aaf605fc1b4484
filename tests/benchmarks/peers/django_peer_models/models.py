"""The tables that the history page reads. Nothing here creates or changes one."""

from django.db import models


class Table(models.Model):
    class Meta:
        abstract = True
        managed = False


class User(Table):
    id = models.UUIDField(primary_key=True)
    email = models.TextField()
    role = models.TextField()
    is_whitelisted = models.BooleanField()

    class Meta:
        managed = False
        db_table = "users"


class Session(Table):
    id = models.UUIDField(primary_key=True)
    token_hash = models.BinaryField()
    user = models.ForeignKey(User, models.DO_NOTHING)
    created_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "sessions"


class Image(Table):
    id = models.UUIDField(primary_key=True)
    user = models.ForeignKey(User, models.DO_NOTHING)
    original_filename = models.TextField()
    file_size = models.BigIntegerField()
    status = models.TextField()
    has_preview = models.BooleanField()

    class Meta:
        managed = False
        db_table = "images"


class Workflow(Table):
    id = models.TextField(primary_key=True)
    name = models.TextField()

    class Meta:
        managed = False
        db_table = "workflow_configs"


class Batch(Table):
    id = models.UUIDField(primary_key=True)
    user = models.ForeignKey(User, models.DO_NOTHING)
    created_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "batches"


class Job(Table):
    id = models.UUIDField(primary_key=True)
    user = models.ForeignKey(User, models.DO_NOTHING)
    batch = models.ForeignKey(Batch, models.DO_NOTHING)
    original_image = models.ForeignKey(Image, models.DO_NOTHING, related_name="+")
    result_image = models.ForeignKey(Image, models.DO_NOTHING, null=True, related_name="+")
    position = models.IntegerField()
    workflow_name = models.TextField()
    status = models.TextField()
    error_message = models.TextField(null=True)
    processing_time_ms = models.IntegerField(null=True)
    verdict = models.TextField(null=True)
    verdict_reason = models.TextField(null=True)
    verdict_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        managed = False
        db_table = "processing_jobs"


class Submission(Table):
    id = models.UUIDField(primary_key=True)
    job = models.ForeignKey(Job, models.DO_NOTHING, related_name="submissions")
    charged = models.TextField(null=True)
    estimate = models.DecimalField(max_digits=12, decimal_places=4, null=True)
    cost = models.DecimalField(max_digits=12, decimal_places=4, null=True)

    class Meta:
        managed = False
        db_table = "submissions"
