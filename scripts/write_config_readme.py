"""Write config/README.md from the schema of the configuration: scripts/write_config_readme.py."""

from pathlib import Path

from t2i.config_document import markdown
from t2i.files import write_text
from t2i.yaml_files import read_yaml

folder = Path(__file__).parents[1] / "config"
write_text(folder / "README.md", markdown(read_yaml(folder / "schemas" / "config.schema.yaml")))
