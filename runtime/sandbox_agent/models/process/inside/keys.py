"""Which environment variables hold a provider's key: the well-known ones, as litellm reads them.

Data for both sides: the host checks the variables before anything starts, and the model process
names them when a provider refuses a request.
"""

from __future__ import annotations

from collections.abc import Mapping

KEYS: Mapping[str, tuple[str, ...]] = {
    "ai21": ("AI21_API_KEY",),
    "ai21_chat": ("AI21_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    "anthropic_text": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    "azure": ("AZURE_API_KEY", "AZURE_OPENAI_API_KEY"),
    "cerebras": ("CEREBRAS_API_KEY",),
    "codestral": ("CODESTRAL_API_KEY",),
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
    "cohere_chat": ("COHERE_API_KEY", "CO_API_KEY"),
    "dashscope": ("DASHSCOPE_API_KEY",),
    "deepinfra": ("DEEPINFRA_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "fireworks_ai": (
        "FIREWORKS_AI_API_KEY",
        "FIREWORKS_API_KEY",
        "FIREWORKSAI_API_KEY",
        "FIREWORKS_AI_TOKEN",
    ),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "groq": ("GROQ_API_KEY",),
    "minimax": ("MINIMAX_API_KEY",),
    "mistral": ("MISTRAL_API_KEY",),
    "moonshot": ("MOONSHOT_API_KEY",),
    "nebius": ("NEBIUS_API_KEY",),
    "novita": ("NOVITA_API_KEY",),
    "nvidia_nim": ("NVIDIA_NIM_API_KEY",),
    "openai": ("OPENAI_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY", "OR_API_KEY"),
    "perplexity": ("PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"),
    "replicate": ("REPLICATE_API_KEY", "REPLICATE_API_TOKEN"),
    "sambanova": ("SAMBANOVA_API_KEY",),
    "text-completion-openai": ("OPENAI_API_KEY",),
    "together_ai": (
        "TOGETHERAI_API_KEY",
        "TOGETHER_API_KEY",
        "TOGETHER_AI_API_KEY",
        "TOGETHER_AI_TOKEN",
    ),
    "volcengine": ("VOLCENGINE_API_KEY", "ARK_API_KEY"),
    "wandb": ("WANDB_API_KEY",),
    "xai": ("XAI_API_KEY",),
    "zai": ("ZAI_API_KEY",),
}
"""One of the variables is enough. Not listed: providers that work without a key (a cloud identity,
a local server), and providers whose variables are not certain."""

BASES: Mapping[str, tuple[str, ...]] = {
    "anthropic": ("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"),
    "openai": ("OPENAI_API_BASE", "OPENAI_BASE_URL"),
}
"""Variables that name another server, as `api_base` does. It may need no key."""

IDENTITIES: Mapping[str, tuple[str, ...]] = {
    "azure": ("AZURE_AD_TOKEN", "AZURE_CLIENT_ID", "AZURE_USERNAME", "AZURE_TENANT_ID"),
}
"""Variables that replace a key."""


def missing(provider: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The variables of which one must be set, if none is. () if one is set, or nothing is known."""
    names = KEYS.get(provider, ())
    enough = (*names, *IDENTITIES.get(provider, ()))
    return () if any(environ.get(name) for name in enough) else names


def malformed(provider: str, environ: Mapping[str, str]) -> str:
    """The variable whose value would be sent as the key but does not fit into an HTTP header; "" if
    there is none. Source: RFC 9110, 5.5."""
    name = next((name for name in KEYS.get(provider, ()) if environ.get(name)), "")
    value = environ.get(name, "")
    return "" if value.isascii() and (value.isprintable() or not value) else name


def is_elsewhere(provider: str, api_base: str | None, environ: Mapping[str, str]) -> bool:
    """Whether the request goes to another server than the provider's own, as far as is known."""
    return bool(api_base) or any(environ.get(name) for name in BASES.get(provider, ()))
