"""What `params` of a model may hold: no secret, nothing that is dropped, and everything else."""

from __future__ import annotations

import math
from typing import Any

import pytest
from sandbox_agent.config.model_settings import check_params


@pytest.mark.parametrize(
    "params",
    [
        {"input_cost_per_token": 0.000001, "output_cost_per_token": 2e-6},
        {"input_cost_per_second": 0.1},
        {"max_tokens": 100, "max_completion_tokens": "9000", "min_tokens": 1},
        {"stop_token_ids": [1, 2], "skip_special_tokens": True, "logit_bias": {50256: -100}},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"prompt_cache_key": "my-app", "api_key": None, "user": "me"},
        {"response_format": {"json_schema": {"properties": {"password": {"type": "string"}}}}},
        {"extra_query": {"api-version": "2024-10-21"}, "extra_headers": {"X-Title": "Basic test"}},
    ],
)
def test_usual_params_are_taken(params: dict[str, Any]) -> None:
    check_params(params)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"api_key": "x"}, "api_key is called like a secret"),
        ({"extra_headers": {"Authorization": 5}}, "Authorization is called like a secret"),
        ({"password": 12345678}, "password is called like a secret"),
        ({"extra_headers": {"X-Custom": "Bearer abc12345"}}, "X-Custom has the form of a key"),
        ({"extra_body": {"note": "sk-" + "a1" * 12}}, "note has the form of a key"),
        ({"access_token": "abc"}, "access_token is called like a secret"),
        ({"messages": []}, "messages is not for params"),
        ({"timeout": 3}, "timeout is not for params"),
        ({"n": 2}, "n has no effect here: only one answer"),
        ({"rpm": 3}, "rpm has no effect here: only a router or proxy of litellm"),
        ({"stream_timeout": 3}, "stream_timeout has no effect here: model.timeout bounds"),
        ({"caching": True}, "caching has no effect here: litellm has no cache"),
        ({"functions": []}, "functions has no effect here"),
        ({"input_cost_per_token": 1e-6}, "no effect without output_cost_per_token; write both"),
        ({"a": {"b": [1, math.nan]}}, r"a.b\[1\] is no finite number"),
        ({"temperature": math.inf}, "temperature is no finite number"),
    ],
)
def test_what_params_cannot_hold_is_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        check_params(params)
    assert "; " in str(caught.value)  # what, and the hint
