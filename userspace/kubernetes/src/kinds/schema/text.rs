//! The schemas of texts: one type, which holds nothing, for each small language of Kubernetes' strings.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::rule;

/// Schemas by name, for `#[schemars(with = "...")]`.
macro_rules! schemas {
    ($($(#[$doc:meta])* $name:ident => $schema:expr;)*) => {$(
        $(#[$doc])*
        pub(in crate::kinds) enum $name {}

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let schema: Value = $schema;
                schema.try_into().expect("every schema here is an object")
            }
        }
    )*};
}

schemas! {
    /// A duration of the Gateway API.
    Duration => text(1, 32, &[duration()]);
    /// How long a certificate is valid.
    LifeTime => text(1, 32, &[
        duration(),
        rule("duration(self) >= duration('30s') && duration(self) <= duration('2160h')",
            "out of range: write 10m to 2160h"),
    ]);
    /// An RFC 1123 subdomain.
    Name => text(1, 253, &[rule("!format.dns1123Subdomain().validate(self).hasValue()",
        "no RFC 1123 name: write a-z, 0-9, '-' and '.', each part beginning and ending with a letter or digit")]);
    /// An RFC 1123 label: Namespaces and Services.
    ServiceName => text(1, 63, &[rule("!format.dns1123Label().validate(self).hasValue()",
        "no RFC 1123 label: write a-z, 0-9 and '-', beginning and ending with a letter or digit")]);
    /// A ServiceAccount, or all of a namespace.
    AccountName => text(1, 253, &[rule("self == '*' || !format.dns1123Subdomain().validate(self).hasValue()",
        "no RFC 1123 name: name one ServiceAccount, or \"*\" for all of the namespace")]);
    /// A block of addresses.
    Cidr => text(1, 43, &[rule("isCIDR(self) && cidr(self) == cidr(self).masked()",
        "no CIDR, or host bits are set beyond its prefix: write it like 10.8.0.0/16, or 10.8.0.1/32 for one address")]);
    /// A SPIFFE ID. Its characters are a pattern, because as a rule it would cost more than all others.
    SpiffeId => {
        let mut id = text(1, 2048, &[rule("self.startsWith('spiffe://') && !self.endsWith('/') \
            && !self.contains('/./') && !self.contains('/../') && !self.endsWith('/.') && !self.endsWith('/..')",
            "no SPIFFE ID: write it like spiffe://cluster.local/ns/shop/sa/web")]);
        id["pattern"] = "^spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)*$".into();
        id
    };
    /// A trust domain.
    TrustDomain => text(1, 255, &[trust_domain()]);
    /// A header's name.
    HeaderName => text(1, 256, &[rule("self.matches('^[A-Za-z0-9!#$%&\\'*+.^_`|~-]+$')",
        "no header name: write a name like x-user")]);
    /// A header's single value.
    HeaderValue => text(0, 1024, &[rule("self == self.trim() && !self.matches('[,[:cntrl:]]')",
        "no single value of a header: write it without commas, control characters and blanks at its ends")]);
    /// What stands before a token.
    HeaderPrefix => text(0, 64, &[rule("self.matches('^[ -~]*$')",
        "stands before no token: write printable characters, like \"Bearer \"")]);
    /// An HTTP method.
    Method => text(1, 32, &[rule("self.matches('^[A-Z-]+$')",
        "no HTTP method: write it in capitals, like GET")]);
    /// A path that every server reads alike.
    Path => path();
    /// A host, or all below one.
    Host => text(1, 253, &[rule(
        "!format.dns1123Subdomain().validate(self.startsWith('*.') ? self.substring(2) : self).hasValue() \
         || (self.startsWith('[') && self.endsWith(']') && isIP(self.substring(1, self.size() - 1)))",
        "no host: write a name or an address in lower case, without a port; *. at the beginning is any name")]);
    /// Where a claim is in a token.
    Claim => text(1, 256, &[rule("self.matches('^[^.]+([.][^.]+)*$')",
        "no claim: write it like realm.roles")]);
    /// A cookie's path.
    CookiePath => text(1, 1024, &[rule("self.startsWith('/') && !self.contains(';')",
        "no path that a cookie can have: write a path like /")]);
    /// Where a Service has its keys.
    JwksPath => text(1, 2048, &[rule("self.matches('^/[!\"$-~]*$')", "no path: begin with '/'")]);
    /// Where keys are fetched.
    JwksUri => text(1, 2048, &[
        rule("self.matches('^[!-~]+$') && isURL(self) && url(self).getScheme() in ['https', 'http'] \
            && url(self).getHostname() != ''",
            "no http or https URL with a host: write it like https://idp.example/jwks"),
        rule("!self.matches('^[a-z]+://[^/?#]*@') && !self.contains('#')",
            "a user or a fragment, which no server of keys is asked with: write it like https://idp.example/jwks"),
    ]);
    /// Labels that have to be there.
    Labels => json!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 63},
        "x-kubernetes-validations": [
            rule("self.all(key, !format.qualifiedName().validate(key).hasValue())",
                "no label key: write it like app or example.com/app"),
            rule("self.all(key, !format.labelValue().validate(self[key]).hasValue())", LABEL),
        ],
    });
    /// The key of a label.
    LabelKey => text(1, 317, &[rule("!format.qualifiedName().validate(self).hasValue()",
        "no label key: write it like app or example.com/app")]);
    /// The value of a label.
    Label => text(0, 63, &[rule("!format.labelValue().validate(self).hasValue()", LABEL)]);
    /// [`weft_model::MtlsMode`], whose crate knows nothing of schemas.
    MtlsMode => json!({"type": "string", "enum": ["Disabled", "Permissive", "Strict"]});
}

const LABEL: &str = "no label value: write at most 63 of a-z, A-Z, 0-9, '-', '_' and '.', with a letter or digit at \
                     both ends";

fn text(shortest: usize, longest: usize, rules: &[Value]) -> Value {
    let mut schema = json!({"type": "string", "maxLength": longest, "x-kubernetes-validations": rules});
    if shortest > 0 {
        schema["minLength"] = shortest.into();
    }
    schema
}

fn duration() -> Value {
    rule(
        "self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$')",
        "no duration: write one to four numbers with h, m, s or ms, like 1h30m or 250ms",
    )
}

fn trust_domain() -> Value {
    rule(
        "self.matches('^[a-z0-9._-]+$')",
        "no trust domain: write a name of a-z, 0-9, '.', '-' and '_', like cluster.local",
    )
}

fn path() -> Value {
    let plain = "self.startsWith('/') && !self.contains('//') && !self.contains('/./') && !self.contains('/../') \
                 && !self.endsWith('/.') && !self.endsWith('/..')";
    // Escapes in capitals, and none of what needs none, or stands for NUL, a slash, a backslash, a % or a ;.
    let characters = r"self.matches('^([A-Za-z0-9/._~:@!$&\'()*+,=-]|%(0[1-9A-F]|1[0-9A-F]|2[0-46-9A-C]|3[AC-F]|40|5[BDE]|60|7[B-DF]|[89A-F][0-9A-F]))*$')";
    let message = "no normalised path: begin with '/', without //, /./, /../, '?', '#', ';' and what stands for a slash or a %";
    text(1, 1024, &[rule(plain, message), rule(characters, message)])
}
