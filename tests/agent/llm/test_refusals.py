# ruff: noqa: E501, so that every message stands as its server wrote it
"""What servers say when they turn a request down, each in its own words, and what is read from it."""

from __future__ import annotations

import json

import pytest

from agent.llm.refusals import Refusal, refusal_of

SAID: list[tuple[int | None, str, str, int | None]] = [
    # no tool calling
    (400, "registry.ollama.ai/library/llava:7b does not support tools", "no_tools", None),
    (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set', "no_tools", None),
    (500, "tools param requires --jinja flag", "no_tools", None),
    (500, "Unsupported param: tools", "no_tools", None),
    (404, "No endpoints found that support tool use. To learn more about provider routing, visit: https://x", "no_tools", None),
    (400, "Function calling is not enabled for models/gemma-3-27b-it", "no_tools", None),
    (400, "`tool calling` is not supported with this model", "no_tools", None),
    (400, "Tool calling is not supported for this model.", "no_tools", None),
    (400, "This model doesn't support tool use.", "no_tools", None),
    (400, "Unrecognized request arguments supplied: tools", "no_tools", None),
    (422, '[{"type":"extra_forbidden","loc":["body","tools"],"msg":"Extra inputs are not permitted"}]', "no_tools", None),
    (400, "tools is not supported in this model. For a list of supported models see https://x", "no_tools", None),
    (400, "Failed to call a function. Please adjust your prompt.", "no_tools", None),
    (501, "Function calling is not implemented", "no_tools", None),
    (400, "tool_choice is not supported by this model", "no_tool_choice", None),
    (400, "Thinking may not be enabled when tool_choice forces tool use.", "no_tool_choice", None),
    (400, "Invalid tool_choice, tool_choice: function is not supported", "no_tool_choice", None),
    # images
    (400, "At most 1 image(s) may be provided in one request.", "image_limit", 1),
    (400, "At most 4 image(s) may be provided in one prompt.", "image_limit", 4),
    (400, "You set image=2 (or defaulted to 1) in `--limit-mm-per-prompt`, but passed 3 image items.", "image_limit", 2),
    (400, "Too many images provided. This model supports up to 5 images", "image_limit", 5),
    (400, "Image count 5 exceeds limit 1 per request.", "image_limit", 1),
    (500, "vision model only supports a single image per message", "image_limit", 1),
    (400, "this model only supports one image while more than one image requested", "image_limit", 1),
    (400, "Too many images: 101 > 100", "image_limit", 100),
    (400, "Please use fewer than 17 images in your request to models/gemini-pro-vision", "image_limit", 16),
    (400, "The maximum number of images per request is 8.", "image_limit", 8),
    (400, "Number of images (9) exceeds the maximum allowed (8)", "image_limit", 8),
    (400, "Too many images in request. Max is 10.", "image_limit", 10),
    (400, "Only one image is supported per request", "image_limit", 1),
    (422, "Multiple images are not supported by this model", "image_limit", 1),
    (400, "too many images in the request", "image_limit", None),
    (400, "At most 0 image(s) may be provided in one request.", "no_images", None),
    (500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj", "no_images", None),
    (404, "No endpoints found that support image input", "no_images", None),
    (400, "llama3 is not a multimodal model", "no_images", None),
    (422, "Failed to deserialize: messages[1]: unknown variant `image_url`, expected `text`", "no_images", None),
    (400, "messages[1].content must be a string", "no_images", None),
    (400, "This model does not support images.", "no_images", None),
    (400, "Model does not support image input.", "no_images", None),
    (500, "this model is missing data required for image input", "no_images", None),
    # size
    (413, "Request Entity Too Large", "too_large", None),
    (413, "<html><head><title>413 Request Entity Too Large</title></head>nginx</html>", "too_large", None),
    (413, "", "too_large", None),
    (413, "Failed to buffer the request body: length limit exceeded", "too_large", None),
    (413, "Request exceeds the maximum allowed number of bytes: 32 MB", "too_large", 32 << 20),
    (400, "messages.0.content.1.image.source.base64: image exceeds 5 MB maximum: 6300000 bytes > 5242880 bytes", "too_large", 5 << 20),
    (400, "At least one of the image dimensions exceed max allowed size: 8000 pixels", "too_large", None),
    (500, "CUDA out of memory. Tried to allocate 2.00 GiB", "too_large", 2 << 30),
    # context
    (400, "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (4904 in the messages, 4096 in the completion). Please reduce the length of the messages or completion.", "context_too_long", 8192),
    (400, "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.", "context_too_long", 128000),
    (400, "The decoder prompt (length 5000) is longer than the maximum model length of 4096. Make sure that `max_model_len` is no smaller than the number of text tokens plus multimodal tokens. For image inputs, the number of image tokens depends on the number of images and their aspect ratios as well.", "context_too_long", 4096),
    (400, "The prompt (total length 5000) is too long to fit into the model (context length 4096).", "context_too_long", 4096),
    (400, "'max_tokens' or 'max_completion_tokens' is too large: 4096. This model's maximum context length is 4096 tokens and your request has 1000 input tokens (4096 > 4096 - 1000).", "context_too_long", 4096),
    (400, "the request exceeds the available context size (4096 tokens), try increasing it", "context_too_long", 4096),
    (400, "request (5123 tokens) exceeds the available context size (4096 tokens), try increasing it", "context_too_long", 4096),
    (400, "The input (5000 tokens) is longer than the model's context length (4096 tokens).", "context_too_long", 4096),
    (400, "Requested token count exceeds the model's maximum context length of 32768 tokens. You requested a total of 40000 tokens: 36000 tokens from the input messages and 4000 tokens for the completion.", "context_too_long", 32768),
    (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 100 `max_new_tokens`", "context_too_long", 4096),
    (422, "Input validation error: `inputs` must have less than 1024 tokens. Given: 1100", "context_too_long", 1024),
    (400, "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens", "context_too_long", 4096),
    (400, "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length", "context_too_long", 32768),
    (400, "prompt is too long: 210000 tokens > 200000 maximum", "context_too_long", 200000),
    (400, "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length", "context_too_long", 200000),
    (400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", "context_too_long", 1048576),
    (400, "This model's maximum prompt length is 131072 but the request contains 537812 tokens.", "context_too_long", 131072),
    (400, "This endpoint's maximum context length is 32768 tokens. However, you requested about 40000 tokens (38000 of text input, 2000 in the output).", "context_too_long", 32768),
    (400, "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens.", "context_too_long", 272000),
    (400, "prompt too long; exceeded max context length by 400 tokens", "context_too_long", None),
    (400, "Please reduce the length of the messages or completion.", "context_too_long", None),
    (400, "Input is too long for requested model.", "context_too_long", None),
    # roles
    (400, "Unexpected role 'user' after role 'tool'", "role_order", None),
    (400, "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant", "role_order", None),
    (500, "After the optional system message, conversation roles must alternate user/assistant/user/assistant/...", "role_order", None),
    (400, "After the optional system message, conversation roles must alternate user and assistant roles except for tool calls and results.", "role_order", None),
    (400, "System role not supported", "role_order", None),
    (500, "Only user and assistant roles are supported!", "role_order", None),
    (400, "Please ensure that function response turn comes immediately after a function call turn.", "role_order", None),
    (400, "Invalid 'messages[3]'. Image URLs are only allowed for messages with role 'user', but this message with role 'tool' contains an image URL.", "role_order", None),
    (400, "Not the same number of function calls and responses", "role_order", None),
    # one request above the limit of a minute
    (429, "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 45123. The input or output tokens must be reduced in order to run successfully.", "rate_request_too_large", 30000),
    (413, "Request too large for model `llama-3.3-70b-versatile` in organization `org_x` service tier `on_demand` on tokens per minute (TPM): Limit 6000, Requested 14810, please reduce your message size and try again.", "rate_request_too_large", 6000),
    (429, "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 25000, Requested 6000.", "other", None),
    (429, "Rate limit reached for model on tokens per minute (TPM): Limit 6000, Used 5914, Requested 1822. Please try again in 17.359s.", "other", None),
    (429, "This request would exceed your organization's rate limit of 40,000 input tokens per minute", "other", None),
    (429, "Too many requests", "other", None),
    # the rest
    (503, "Loading model", "loading", None),
    (503, "Model Qwen/Qwen2.5-VL-7B is currently loading", "loading", None),
    (401, "Incorrect API key provided", "auth", None),
    (403, "This key does not support tools", "auth", None),
    (400, "temperature must be between 0 and 2", "other", None),
    (404, "The model `nobody` does not exist or you do not have access to it.", "other", None),
    (500, "Internal Server Error", "other", None),
    (502, "<html><body><h1>502 Bad Gateway</h1></body></html>", "other", None),
    (None, "", "other", None),
]  # fmt: skip


def bodies(message: str) -> list[str]:
    """One message as different servers wrap it."""
    inner = json.dumps({"object": "error", "message": message, "type": "BadRequestError", "param": None})
    return [
        message,
        json.dumps({"error": message}),
        json.dumps({"detail": message}),
        json.dumps({"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}),
        json.dumps({"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": inner}}}),
        f"Error code: 400 - {{'object': 'error', 'message': {message!r}, 'code': 400}}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "message", "kind", "limit"), SAID, ids=[f"{s}-{m[:40]}" for s, m, *_ in SAID]
)
def test_every_server_is_understood(status: int | None, message: str, kind: str, limit: int | None) -> None:
    for body in bodies(message):
        refusal = refusal_of(status, body)
        assert (refusal.kind, refusal.limit) == (kind, limit), body


def test_the_figures_that_a_server_counted() -> None:
    body = '{"error":{"code":400,"message":"too long","type":"exceed_context_size_error","n_prompt_tokens":1407,"n_ctx":256}}'
    assert refusal_of(400, body) == Refusal("context_too_long", 256, 1407)
    assert (
        refusal_of(400, "maximum context length is 8192 tokens. However, you requested 9,000 tokens").asked
        == 9000
    )


def test_a_request_that_may_go_through_in_another_form() -> None:
    assert Refusal("image_limit", 1).mendable
    assert not any(Refusal(kind).mendable for kind in ("no_images", "loading", "auth", "other"))
