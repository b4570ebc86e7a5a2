"""The workflow engine: knows git, Postgres and models, and nothing of GitHub, HTTP servers or pages."""
