"""What the rules of metrics ask: their inputs and parameters.

CONSUMES the checked configuration
PRODUCES names only
"""


def network_files(wildcards):
    """Files of the scoring network that a wildcard names."""
    return network_folder(wildcards.network)


def reference_images(wildcards):
    """The folder or archive of an image set."""
    return str(REFERENCE_SETS[wildcards.images])


def reference_folder_state(wildcards):
    """What a folder of images holds, which its own time does not tell."""
    return image_sets.folder_state(REFERENCE_SETS[wildcards.images])


def reference_features(wildcards):
    """Features of all parts of an image set, in order."""
    return expand(
        "resources/reference/{images}/features.{network}/{part}.npz",
        images=wildcards.images,
        network=wildcards.network,
        part=image_sets.part_names(SCORES["reference"].get("shards", 1)),
    )
