"""Programs that develop the project: nothing here is needed to deploy or to use it."""
