"""Settings under which a tiny model of the tests annotates."""

from pathlib import Path

from llambert_etl.settings import Settings

LINES = "{% for e in examples %}{{ e.text }} = {{ e.label }}\n{% endfor %}{{ text }} ="


def local_settings(tmp_path: Path, model: Path | None, template: str = LINES) -> Settings:
    (tmp_path / "include" / "prompts").mkdir(parents=True, exist_ok=True)
    (tmp_path / "include" / "prompts" / "movie_sentiment.j2").write_text(template)
    paths = {} if model is None else {"tests/tiny-llama": model}
    return Settings(lake=str(tmp_path / "lake"), include=tmp_path / "include", model_orgs=["tests"], model_paths=paths)
