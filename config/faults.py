"""Mistakes on purpose: each function is a `patch` of a variant that puts one into the pipeline.

They are what people get wrong when they run Stable Diffusion XL by other means, and what a verdict
is there to catch. `quality.yaml` runs them beside the reference; no other run should.
"""

from diffusers import EulerDiscreteScheduler


def trailing_spacing(pipeline):
    """Timesteps spread from the end, not from the beginning of the schedule."""
    return _rescheduled(pipeline, timestep_spacing="trailing")


def linspace_spacing(pipeline):
    """Timesteps spread evenly over the schedule with both of its ends."""
    return _rescheduled(pipeline, timestep_spacing="linspace")


def steps_offset_0(pipeline):
    """Every timestep is one too early."""
    return _rescheduled(pipeline, steps_offset=0)


def last_text_state(pipeline):
    """Both text encoders give their last state instead of the one before it."""

    def replace(encoder, inputs, output):
        if output.hidden_states is not None:
            *first, _, last = output.hidden_states
            output.hidden_states = (*first, last, last)
        return output

    for encoder in (pipeline.text_encoder, pipeline.text_encoder_2):
        encoder.register_forward_hook(replace)
    return pipeline


def zeroed_negative(pipeline):
    """The negative prompt is not encoded: its embeddings are zeros."""

    def change(arguments):
        for name in ("negative_prompt_embeds", "negative_pooled_prompt_embeds"):
            arguments[name] = arguments[name].new_zeros(arguments[name].shape)

    return _called_with(pipeline, change)


def shuffled_captions(pipeline):
    """Every image of a batch is painted by the caption of the one before it.

    A batch of one image has nothing to be mixed up with.
    """

    def change(arguments):
        for name in ("prompt_embeds", "pooled_prompt_embeds"):
            arguments[name] = arguments[name].roll(1, dims=0)

    return _called_with(pipeline, change)


def _rescheduled(pipeline, **changes):
    config = pipeline.scheduler.config
    pipeline.scheduler = EulerDiscreteScheduler.from_config(config, **changes)
    return pipeline


def _called_with(pipeline, change):
    """The pipeline, whose arguments go through `change` before each call."""

    class Changed(type(pipeline)):
        def __call__(self, **arguments):
            change(arguments)
            return super().__call__(**arguments)

    # Python looks a call up in the class, so that nothing set on the pipeline itself would do.
    pipeline.__class__ = Changed
    return pipeline
