"""Every form of a token that is known has an example, made up, which is masked wherever it stands."""

from __future__ import annotations

import pytest

from opentelemetry_guard.privacy import Privacy
from opentelemetry_guard.settings.mask import MASK
from opentelemetry_guard.settings.token_forms import FORMS

# In two parts, so that no scanner takes them for real ones.
A, HEX, UPPER = "Zx81qTaB3dE5gH7jK9mN", "0f9e8d7c6b5a4f3e2d1c", "ZX81QTAB3DE5GH7JK9MN"
EXAMPLES: dict[str, tuple[str, str]] = {
    "JWT, JWS, JWE": ("eyJ", "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N"),
    "JWT that was cut": ("eyJ", "hbGciOiJIUzI1NiJ9" * 4),
    "1Password": ("ops_", "eyJ" + A),
    "Adobe": ("p8e-", A),
    "age": ("AGE-SECRET-", "KEY-1" + UPPER),
    "Airtable": ("pat", "Zx81qTaB3dE5gH." + HEX),
    "Alibaba Cloud": ("LTAI", A),
    "Anthropic, OpenAI, OpenRouter and others": ("sk-", "ant-api03-" + A),
    "Artifactory": ("AKCp", A),
    "Artifactory, reference": ("cmVmd", A + A),
    "Atlassian": ("ATATT3", A),
    "Atlassian, Bitbucket": ("ATBB", A),
    "Atlassian, Connect": ("ATCTT3", A),
    "AWS": ("AKIA", UPPER[:16]),
    "AWS Bedrock": ("ABSK", A + A),
    "Azure, application secret": ("abc8", "Q~" + A + A[:12]),
    "Azure DevOps": (A + A + A[:12], "JQQJ99" + A[:18] + "AZDO" + A[:4]),
    "Azure, services": (A + A + A[:12], "JQQJ99" + A),
    "Brevo": ("xkeysib-", HEX * 3 + "-Zx81qTaB3dE5gH7j"),
    "Buildkite": ("bkua_", A),
    "CircleCI": ("CCIPAT_", A),
    "Clojars": ("CLOJARS_", HEX),
    "Cloudflare": ("cfut_", A),
    "Cloudflare, origin": ("v1.0-", (HEX + HEX)[:24] + "-" + HEX * 3),
    "Contentful": ("CFPAT-", A),
    "crates.io": ("cio", (A + A)[:32]),
    "Databricks": ("dapi", (HEX + HEX)[:32] + "-2"),
    "DigitalOcean": ("dop_v1_", HEX),
    "Discord": ("MTk4", (A + A)[:22] + ".Zx81qT." + (A + A)[:30]),
    "Discord, webhook": ("discord.com/", "api/webhooks/123456789012345678/" + A),
    "Docker": ("dckr_pat_", A),
    "Doppler": ("dp.pt.", A),
    "Duffel": ("duffel_", "live_" + A),
    "Dynatrace": ("dt0c01.", UPPER + "." + UPPER),
    "EasyPost": ("EZAK", A + A),
    "Facebook": ("EAAC", "B" + A),
    "Figma": ("figd_", A),
    "Fly.io": ("fo1_", A),
    "Fly.io, macaroon": ("fm2_", A),
    "Flutterwave": ("FLWSECK-", A + "-X"),
    "Frame.io": ("fio-u-", A),
    "GitHub": ("ghp_", A),
    "GitHub, fine-grained": ("github_pat_", A),
    "GitLab": ("glpat-", A),
    "GitLab, runner registration": ("GR1348941", A),
    "Google": ("AIza", A + "Sy"),
    "Google, Gemini": ("AQ.", "Ab" + A),
    "Google, OAuth": ("ya29.", A),
    "Google, OAuth client": ("GOCSPX-", A),
    "Google, OAuth refresh": ("1//0", A),
    "Grafana": ("glsa_", A),
    "Groq": ("gsk_", A),
    "Heroku": ("HRKU-", A),
    "Hugging Face": ("hf_", A),
    "Hugging Face, organization": ("api_org_", A),
    "LangSmith": ("lsv2_pt_", A),
    "Linear": ("lin_api_", A),
    "Microsoft Teams, webhook": ("webhook.office.com/", "webhookb2/" + A),
    "Mailchimp": ((HEX + HEX)[:32], "-us12"),
    "Mailgun": ("key-", (HEX + HEX)[:32]),
    "Mapbox": ("sk.", "eyJ" + A + "." + A),
    "Mapbox, public": ("pk.", "eyJ" + A + "." + A),
    "Neon": ("napi_", A),
    "Netlify": ("nfp_", A),
    "New Relic": ("NRAK-", UPPER),
    "Notion": ("ntn_", A),
    "npm": ("npm_", A),
    "Perplexity": ("pplx-", A),
    "PlanetScale": ("pscale_", "tkn_" + A),
    "Postman": ("PMAK-", A + "-" + A),
    "Prefect": ("pnu_", A),
    "Pulumi": ("pul-", HEX),
    "PyPI": ("pypi-", A),
    "Razorpay": ("rzp_", "live_" + A),
    "ReadMe": ("rdme_", HEX),
    "Replicate": ("r8_", A),
    "Resend": ("re_", "Zx81qTaB_" + A),
    "RubyGems": ("rubygems_", HEX),
    "SendGrid": ("SG.", A + "." + A),
    "Sentry": ("sntrys_", A),
    "Shippo": ("shippo_", "live_" + HEX),
    "Shopify": ("shpat_", HEX),
    "Slack": ("xoxb-", "123456789012-" + A),
    "Slack, application": ("xapp-", "1-" + A),
    "Slack, webhook": ("hooks.slack.com/", "services/T0000/B0000/" + A),
    "Slack, configuration": ("xoxe-", "1-" + A),
    "Sonar": ("sqp_", HEX + HEX),
    "Square": ("sq0atp-", A),
    "Square, access": ("EAAA", A + A + A),
    "Stripe": ("sk_", "live_" + A),
    "Stripe, publishable": ("pk_", "live_" + A),
    "Stripe, restricted": ("rk_", "live_" + A),
    "Stripe, webhook": ("whsec_", A),
    "Supabase": ("sbp_", HEX),
    "Tailscale": ("tskey-", "auth-" + A + "-" + A),
    "Telegram": ("12345678:", "AA" + (A + A)[:33]),
    "Terraform": ("Zx81qTaB3dE5gH", ".atlasv1." + A),
    "Twilio": ("SK", (HEX + HEX)[:32]),
    "Typeform": ("tfp_", A),
    "Vault": ("hvs.", A),
    "Vercel": ("vcp_", A),
    "xAI": ("xai-", A),
}


def test_every_form_has_an_example() -> None:
    assert EXAMPLES.keys() == FORMS.keys()


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("around", ["{}", "call with {} failed", "x={}&y=1", "%20{}%20", '"{}",', "[{}]"])
def test_a_token_of_every_form_is_masked_alone_and_in_a_text(name: str, around: str) -> None:
    token = "".join(EXAMPLES[name])
    sent = Privacy().text(around.format(token))
    assert token[-8:] not in sent
    assert sent == around.format(MASK) or "%20" in around
