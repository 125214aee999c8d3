"""What all models of the policy have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class PolicyModel(BaseModel):
    """A mapping of the policy file: fixed keys, frozen once read, no other key let through.

    Every attribute has a docstring, which is its line in docs/configuration.md.
    """

    # hide_input: a value that someone put under a wrong key may be a secret, so no message of pydantic's may show it.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
