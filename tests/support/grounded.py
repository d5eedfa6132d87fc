"""A question about a document, and a profile that reads how much the document moved its answer."""

from guardrail.calibration.calibrators import ReferenceDistribution
from guardrail.calibration.confidence import ConfidenceModel, Term
from guardrail.calibration.profile import write_profile
from guardrail.models.documents import as_grounded
from tests.support.guards import ASKED, profile_of

DOCUMENT = "Faust is a play by Goethe."
GROUNDED = [as_grounded(ASKED, DOCUMENT)]
# The same prompt, whose document nobody declares.
UNDECLARED = [{"role": "user", "content": GROUNDED[0]["content"]}]
SURE = {"id": "sure", "when": {"confidence": {"gte": 0.0}}, "action": "pass"}
OTHERWISE = {"id": "no", "action": "abstain"}
_TERMS = (
    Term(score="hybridgrad", transform="log", weight=0.0),
    Term(score="document_gain", transform="identity", weight=1.0),
)


def grounded_profile(path, model=None, **changes):
    """Write a profile whose confidence is the logistic of the gain."""
    profile = profile_of(model)
    gains = ReferenceDistribution(n=3, values=(-10.0, 0.0, 10.0))
    read = {
        "confidence_model": ConfidenceModel(inputs="signals", terms=_TERMS),
        "reference": {**profile.reference, "document_gain": gains},
    }
    write_profile(profile.model_copy(update={**read, **changes}), path)
    return path
