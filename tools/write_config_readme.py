"""Write config/README.md from the schema of the configuration: tools/write_config_readme.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from t2i.base.files import write_text
from t2i.base.yaml import read_yaml
from t2i.config.readme import markdown

folder = Path(__file__).parents[1] / "config"
write_text(folder / "README.md", markdown(read_yaml(folder / "schemas" / "config.schema.yaml")))
