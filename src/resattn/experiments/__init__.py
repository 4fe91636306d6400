"""Many runs for one question: studies over the fields of a recipe."""
