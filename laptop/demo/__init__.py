"""The demo: three nights of real reviews through the whole platform, driven by Airflow's REST API alone."""
