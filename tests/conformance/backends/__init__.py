"""The hosts of the engine, each behind the same few words (`base.Backend`)."""
