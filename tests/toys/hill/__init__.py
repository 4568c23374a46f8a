"""A study's experiment of milliseconds: how high is the ground at a place? Each step sees it more clearly."""
