"""What people see of a run on GitHub: computed from its rows, and changed there only where it differs."""
