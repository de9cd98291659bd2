"""Models of the tests, whose tables the tests make."""

from __future__ import annotations

from django.db import models


class Effect(models.Model):
    value = models.BigIntegerField(primary_key=True)

    class Meta:
        managed = False
        db_table = "effects"

    def __str__(self):
        return str(self.value)
