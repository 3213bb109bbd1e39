"""What the rules of fetch ask: their inputs and parameters.

CONSUMES the checked configuration
PRODUCES names only
"""


def source_digest(wildcards):
    """What an input must be. Another address or mirror brings nothing new, so neither counts."""
    source = SOURCES[wildcards.source]
    return f"{source.algorithm} {source.digest}"


def all_at_hand_offline(wildcards):
    """No file; refuses to begin where no network may be used and inputs are missing."""
    if CONFIG["offline"]:
        from t2i.fetch import files  # only here, since every job reads this file

        names = {*derive.needed_sources(CONFIG, SOURCES), wildcards.source}
        inputs = [SOURCES[name] for name in sorted(names)]
        missing = files.missing_offline(inputs, Path("resources"), CONFIG["mirror"])
        if missing:
            raise WorkflowError(files.how_to_get(missing, MIRROR_COMMAND))
    return []


def published_digest(network):
    """A function that gives the sha256 of a scoring network's published file."""

    def digest(wildcards):
        return SOURCES[needed.NETWORK_SOURCES[network]].digest

    return digest
