"""Tables in, figures and HTML pages out. Knows neither the API nor Dagster."""
