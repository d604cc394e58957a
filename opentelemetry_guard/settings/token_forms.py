"""The forms of tokens that providers document, or that public secret scanners (gitleaks, GitHub) publish.

A form begins with what its provider puts in front of every token; lengths are
lower bounds, since providers change them and a log may have cut the token.
Each has an example in ``tests/privacy/test_token_forms.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

FORMS: Mapping[str, str] = {
    "JWT, JWS, JWE": r"eyJ[A-Za-z0-9_-]{13,}(?:\.[A-Za-z0-9_-]*){1,4}",
    "JWT that was cut": r"eyJ[A-Za-z0-9_-]{60,}",
    "1Password": r"ops_eyJ[A-Za-z0-9+/_-]{16,}",
    "Adobe": r"p8e-[A-Za-z0-9]{16,}",
    "age": r"AGE-SECRET-KEY-1[0-9A-Z]{16,}",
    "Airtable": r"pat[A-Za-z0-9]{14}\.[a-f0-9]{16,}",
    "Alibaba Cloud": r"LTAI[A-Za-z0-9]{12,}",
    "Anthropic, OpenAI, OpenRouter and others": r"sk-(?:[A-Za-z0-9]{1,10}-){0,4}[A-Za-z0-9_]{16,}[A-Za-z0-9_-]*",
    "Artifactory": r"AKCp[A-Za-z0-9]{16,}",
    "Artifactory, reference": r"cmVmd[A-Za-z0-9]{32,}",
    "Atlassian": r"ATATT3[A-Za-z0-9_=-]{16,}",
    "Atlassian, Bitbucket": r"ATBB[A-Za-z0-9_=-]{16,}",
    "Atlassian, Connect": r"ATCTT3[A-Za-z0-9_=-]{16,}",
    "AWS": r"A(?:KIA|SIA|ROA|IDA|BIA|CCA|3T[A-Z0-9])[A-Z0-9]{12,}",
    "AWS Bedrock": r"ABSK[A-Za-z0-9+/]{32,}={0,2}",
    "Azure, application secret": r"[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}",
    "Azure DevOps": r"[A-Za-z0-9]{52}JQQJ99[A-Za-z0-9]{18}AZDO[A-Za-z0-9]{4}",
    "Azure, services": r"[A-Za-z0-9]{52}JQQJ99[A-Za-z0-9]{16,26}",
    "Brevo": r"xkeysib-[a-f0-9]{16,}(?:-[A-Za-z0-9]{1,32})?",
    "Buildkite": r"bk(?:ua|aj|ct)_[A-Za-z0-9]{16,}",
    "CircleCI": r"CCIPAT_[A-Za-z0-9_]{16,}",
    "Clojars": r"CLOJARS_[a-z0-9]{16,}",
    "Cloudflare": r"cf(?:ut|at|k)_[A-Za-z0-9_-]{16,}",
    "Cloudflare, origin": r"v1\.0-[a-f0-9]{24}-[a-f0-9]{32,}",
    "Contentful": r"CFPAT-[A-Za-z0-9_-]{16,}",
    "crates.io": r"cio[A-Za-z0-9]{32}",
    "Databricks": r"dapi[a-f0-9]{32}(?:-[0-9])?",
    "DigitalOcean": r"do[opr]_v1_[a-f0-9]{16,}",
    "Discord": r"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40}",
    "Discord, webhook": r"discord(?:app)?\.com/api/webhooks/[0-9]{16,20}/[A-Za-z0-9_-]{16,}",
    "Docker": r"dckr_[po]at_[A-Za-z0-9_-]{16,}",
    "Doppler": r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._-]{16,}",
    "Duffel": r"duffel_(?:test|live)_[A-Za-z0-9_=-]{16,}",
    "Dynatrace": r"dt0[a-z][0-9]{2}\.[A-Z0-9]{16,}\.[A-Z0-9]{16,}",
    "EasyPost": r"EZ[AT]K[A-Za-z0-9]{32,}",
    "Facebook": r"EAA(?:[MCA]|[A-Za-z0-9]B)[A-Za-z0-9]{20,}",
    "Figma": r"fig[dou][rh]?_[A-Za-z0-9_-]{16,}",
    "Fly.io": r"fo1_[A-Za-z0-9_-]{16,}",
    "Fly.io, macaroon": r"fm[12][ar]?_[A-Za-z0-9+/=_-]{16,}",
    "Flutterwave": r"FLW(?:SEC|PUB)K(?:_TEST)?-[A-Za-z0-9]{12,}(?:-X)?",
    "Frame.io": r"fio-u-[A-Za-z0-9_=-]{16,}",
    "GitHub": r"gh[oprsu]_[A-Za-z0-9]{16,}",
    "GitHub, fine-grained": r"github_pat_[A-Za-z0-9_]{16,}",
    "GitLab": r"gl(?:pat|dt|rt|rtr|ptt|ft|soat|cbt|agent|oas|imt|ffct|wt)-[A-Za-z0-9_.-]{16,}",
    "GitLab, runner registration": r"GR1348941[A-Za-z0-9_-]{16,}",
    "Google": r"AIza[A-Za-z0-9_-]{20,}",
    "Google, Gemini": r"AQ\.Ab[A-Za-z0-9_-]{20,}",
    "Google, OAuth": r"ya29\.[A-Za-z0-9_.-]{16,}",
    "Google, OAuth client": r"GOCSPX-[A-Za-z0-9_-]{16,}",
    "Google, OAuth refresh": r"1//0[A-Za-z0-9_-]{20,}",
    "Grafana": r"gl(?:sa|c)_[A-Za-z0-9+/=_]{16,}",
    "Groq": r"gsk_[A-Za-z0-9]{16,}",
    "Heroku": r"HRKU-[A-Za-z0-9_-]{16,}",
    "Hugging Face": r"hf_[A-Za-z0-9]{16,}",
    "Hugging Face, organization": r"api_org_[A-Za-z0-9]{16,}",
    "LangSmith": r"lsv2_(?:pt|sk)_[A-Za-z0-9_]{16,}",
    "Linear": r"lin_(?:api|oauth)_[A-Za-z0-9]{16,}",
    "Microsoft Teams, webhook": r"webhook\.office\.com/webhookb2/[A-Za-z0-9@/-]{16,}",
    "Mailchimp": r"[a-f0-9]{32}-us[0-9]{1,2}(?![0-9])",
    "Mailgun": r"key-[a-f0-9]{32}",
    "Mapbox": r"sk\.eyJ[A-Za-z0-9_-]{16,}(?:\.[A-Za-z0-9_-]{4,})?",
    "Mapbox, public": r"pk\.eyJ[A-Za-z0-9_-]{16,}(?:\.[A-Za-z0-9_-]{4,})?",
    "Neon": r"napi_[A-Za-z0-9]{16,}",
    "Netlify": r"nf[pcoub]_[A-Za-z0-9]{16,}",
    "New Relic": r"NR(?:AK|II|JS|RA|BR)-[A-Za-z0-9]{16,}",
    "Notion": r"ntn_[A-Za-z0-9]{16,}",
    "npm": r"npm_[A-Za-z0-9]{16,}",
    "Perplexity": r"pplx-[A-Za-z0-9]{16,}",
    "PlanetScale": r"pscale_(?:tkn|oauth|pw)_[A-Za-z0-9_.=-]{16,}",
    "Postman": r"PMAK-[A-Za-z0-9]{16,}(?:-[A-Za-z0-9]{1,40})?",
    "Prefect": r"pn[ub]_[A-Za-z0-9]{16,}",
    "Pulumi": r"pul-[a-f0-9]{16,}",
    "PyPI": r"pypi-[A-Za-z0-9_-]{16,}",
    "Razorpay": r"rzp_(?:live|test)_[A-Za-z0-9]{8,}",
    "ReadMe": r"rdme_[a-z0-9]{16,}",
    "Replicate": r"r8_[A-Za-z0-9]{16,}",
    "Resend": r"re_[A-Za-z0-9]{6,10}_[A-Za-z0-9]{16,}",
    "RubyGems": r"rubygems_[a-f0-9]{16,}",
    "SendGrid": r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    "Sentry": r"sntry[su]_[A-Za-z0-9+/=_-]{16,}",
    "Shippo": r"shippo_(?:live|test)_[a-f0-9]{16,}",
    "Shopify": r"shp(?:at|ca|pa|ss|tka|ua)_[A-Fa-f0-9]{16,}",
    "Slack": r"xox[a-z](?:\.xox[a-z])?(?:-[A-Za-z0-9]+){1,8}",
    "Slack, application": r"xapp-[A-Za-z0-9-]{11,}",
    "Slack, webhook": r"hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/[A-Za-z0-9/+]{16,}",
    "Slack, configuration": r"xoxe-[0-9]-[A-Za-z0-9]{16,}",
    "Sonar": r"sq[upa]_[a-f0-9]{32,}",
    "Square": r"sq0[a-z]{3}-[A-Za-z0-9_-]{16,}",
    "Square, access": r"EAAA[A-Za-z0-9_-]{56,}",
    "Stripe": r"sk_(?:live|test|prod)_[A-Za-z0-9]{8,}",
    "Stripe, publishable": r"pk_(?:live|test|prod)_[A-Za-z0-9]{8,}",
    "Stripe, restricted": r"rk_(?:live|test|prod)_[A-Za-z0-9]{8,}",
    "Stripe, webhook": r"whsec_[A-Za-z0-9+/=]{16,}",
    "Supabase": r"sb(?:p_[a-f0-9]{16,}|_secret_[A-Za-z0-9_-]{16,})",
    "Tailscale": r"tskey-[a-z]{2,12}-[A-Za-z0-9]{4,}(?:-[A-Za-z0-9]{4,})?",
    "Telegram": r"(?:bot)?[0-9]{8,10}:AA[A-Za-z0-9_-]{32,34}(?![A-Za-z0-9_-])",
    "Terraform": r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{16,}",
    "Twilio": r"SK[a-f0-9]{32}",
    "Typeform": r"tfp_[A-Za-z0-9._=-]{16,}",
    "Vault": r"hv[sbr]\.[A-Za-z0-9_-]{16,}",
    "Vercel": r"vc[pciakr]_[A-Za-z0-9]{16,}",
    "xAI": r"xai-[A-Za-z0-9_-]{16,}",
}
"""The pattern of each form, which is matched at the beginning of a word."""

HOSTS = ("discord", "hooks.slack", "webhook.office")
"""How the names of the hosts begin that forms name: the rest of such a token is the path of a URL."""

_LEAD = re.compile(r"[A-Za-z0-9]")
_LONG = r"(?=[A-Za-z0-9_~.:-]{36})"
"""What the forms that begin with anything are at least; it spares trying them at a shorter word."""


def _alternatives() -> str:
    """Return one pattern for all forms, by their first characters, so that few are tried at a word."""
    by_lead: dict[str, list[str]] = {}
    for pattern in FORMS.values():
        lead = pattern[0] if _LEAD.match(pattern) else ""
        by_lead.setdefault(lead, []).append(pattern[len(lead) :])
    long = by_lead.pop("")
    groups = (f"{lead}(?:{'|'.join(rests)})" for lead, rests in by_lead.items())
    return "|".join((*groups, rf"{_LONG}(?:{'|'.join(long)})"))


TOKEN = _alternatives()
"""The pattern of any form."""
