"""The history page with Django: its ORM, its URLs, its templates. One file, as Django allows.

DATABASE=name HOST=folder PORT=number gunicorn django_peer:application
"""

import os
from pathlib import Path

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application

settings.configure(
    SECRET_KEY="only for benchmarks, never served to anybody",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF="django_peer",
    USE_TZ=True,
    INSTALLED_APPS=["django_peer_models"],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": os.environ["DATABASE"],
            "USER": os.environ["DATABASE_USER"],
            "HOST": os.environ["HOST"],
            "PORT": os.environ["PORT"],
            "CONN_MAX_AGE": None,
        }
    },
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "DIRS": [Path(__file__).parent / "django_templates"],
            "OPTIONS": {
                "loaders": [
                    (
                        "django.template.loaders.cached.Loader",
                        ["django.template.loaders.filesystem.Loader"],
                    )
                ]
            },
        }
    ],
)
django.setup()

from datetime import datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

import words
from django.db.models import Q, Sum
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import path, reverse
from django.utils import timezone
from django_peer_models.models import Image, Job, Session, Workflow


def signed_in(request):
    now = timezone.now()
    return (
        Session.objects.select_related("user")
        .filter(
            token_hash=words.token_hash(request.COOKIES.get("i2i", "")),
            user__is_whitelisted=True,
            last_seen_at__gt=now - timedelta(hours=24),
            created_at__gt=now - timedelta(days=14),
        )
        .first()
    )


def history(request):
    session = signed_in(request)
    if session is None:
        return HttpResponseRedirect("/login")
    user, asked = session.user, request.GET
    jobs = Job.objects.filter(user=user, deleted_at=None)
    if status := asked.get("status"):
        jobs = jobs.filter(status=status)
    if workflow := asked.get("workflow"):
        jobs = jobs.filter(workflow_name=workflow)
    if verdict := asked.get("verdict"):
        jobs = jobs.filter(status="completed", verdict=None if verdict == "none" else verdict)
    if q := asked.get("q"):
        jobs = jobs.filter(original_image__original_filename__icontains=q)
    found = jobs[: words.MOST_COUNTED + 1].count()
    if after := asked.get("after"):
        moment, _, last = after.partition("_")
        before = datetime.fromisoformat(moment)
        jobs = jobs.filter(Q(created_at__lt=before) | Q(created_at=before, id__lt=UUID(last)))
    rows = list(
        jobs.select_related("original_image", "result_image")
        .prefetch_related("submissions")
        .order_by("-created_at", "-id")[: words.PAGE_SIZE + 1]
    )
    shown = rows[: words.PAGE_SIZE]
    older = None
    if len(rows) > words.PAGE_SIZE:
        cursor = f"{shown[-1].created_at.isoformat()}_{shown[-1].id}"
        older = f"{reverse('history')}?{urlencode({'after': cursor})}"
    running = (
        Job.objects.filter(user=user, status__in=words.WORKING, deleted_at=None)
        .order_by("-created_at", "-id")
        .values_list("batch_id", flat=True)
        .first()
    )
    stored = Image.objects.filter(user=user).aggregate(bytes=Sum("file_size"))["bytes"] or 0
    return render(
        request,
        "history.html",
        {
            "user": user,
            "running": running,
            "cards": [card(row) for row in shown],
            "tabs": words.TABS,
            "sizes": words.SIZES,
            "workflows": Workflow.objects.order_by("id").only("id", "name"),
            "total": Job.objects.filter(user=user, deleted_at=None).count(),
            "used": words.gigabytes(stored),
            "found": found,
            "older": older,
            "typed": asked,
        },
    )


def card(row):
    result = row.result_image
    glyph, tone, word, fact, charge = words.describe(row, submissions=row.submissions.all())
    first, last = words.halves(row.original_image.original_filename)
    return {
        "id": row.id,
        "position": row.position,
        "url": reverse("job", args=[row.id]),
        "name": row.original_image.original_filename,
        "first": first,
        "last": last,
        "result": reverse("image", args=[result.id]) if result else None,
        "original": reverse("image", args=[row.original_image_id]),
        "retry": reverse("retry", args=[row.id]) if row.status == "failed" else None,
        "error": row.error_message,
        "money": charge,
        "other": f"/batches/new?{urlencode({'parent': row.batch_id, 'image': row.original_image_id})}"
        if row.status == "failed"
        else None,
        "glyph": glyph,
        "tone": tone,
        "word": word,
        "fact": fact,
    }


def nothing(request, **_):
    return HttpResponse(status=404)


urlpatterns = [
    path("jobs", history, name="history"),
    path("jobs/<uuid:id>", nothing, name="job"),
    path("jobs/<uuid:id>/retry", nothing, name="retry"),
    path("images/<uuid:id>", nothing, name="image"),
]
application = get_wsgi_application()
