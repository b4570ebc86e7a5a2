"""Git and the sandbox: mirrors, worktrees, publishing and confined commands."""
