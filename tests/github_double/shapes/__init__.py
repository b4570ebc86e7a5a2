"""State to JSON: one function a kind of object, in the form that GitHub's REST API and webhooks give it."""
