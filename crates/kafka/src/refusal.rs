//! What a broker that does not let us in means for whoever runs this, by the words that librdkafka has for it.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Words of librdkafka, OpenSSL or a broker, and the way out.
const WAYS_OUT: [(&str, &str); 12] = [
    (
        "certificate verify failed",
        "the certificate that the broker shows has expired, was made for another host name, or is of an authority that `ssl.ca.location` does not name; `openssl s_client -connect HOST:PORT -verify_hostname HOST -CAfile FILE` says which",
    ),
    ("alert bad certificate", "the broker wants a certificate of ours: set `ssl.certificate.location` and `ssl.key.location`, or look at them"),
    ("alert certificate required", "the broker wants a certificate of ours: set `ssl.certificate.location` and `ssl.key.location`"),
    ("alert unknown ca", "the broker does not trust the authority of our certificate: look at `ssl.certificate.location`"),
    ("alert certificate", "the broker refuses our certificate, which may have expired: look at `ssl.certificate.location`"),
    (
        "state APIVERSION_QUERY",
        "the broker closes the connection at its first request: if its port speaks TLS, set `security.protocol` to `SSL` or `SASL_SSL`",
    ),
    (
        "PLAINTEXT broker listener",
        "the broker's port speaks no TLS: set `security.protocol` to `PLAINTEXT` or `SASL_PLAINTEXT`, or name another port",
    ),
    (
        "Kerberos",
        "look at `sasl.kerberos.principal`, `sasl.kerberos.keytab` and `sasl.kerberos.service.name`; `kinit -k -t KEYTAB PRINCIPAL` (Debian package krb5-user) must succeed here",
    ),
    ("OAUTHBEARER token", "look at the `sasl.oauthbearer.` properties, and whether their endpoint answers"),
    ("Unsupported SASL mechanism", "set `sasl.mechanism` to one that the broker has on this port"),
    ("No worthy mechs", "install the SASL module of that mechanism: for GSSAPI the Debian package libsasl2-modules-gssapi-mit"),
    ("SASL authentication error", "look at `sasl.username`, `sasl.password` and `sasl.mechanism`"),
];

/// The way out of what the client saw last.
pub fn way_out(seen: &str) -> &'static str {
    let known = WAYS_OUT.iter().find(|(words, _)| seen.contains(words)).map(|(_, way)| *way);
    known.unwrap_or("check `source.kafka`: `bootstrap.servers`, `security.protocol`, and the `sasl.` and `ssl.` properties")
}

/// Whether an error is a broker's answer that another try will not change. A token that cannot be had now is none.
pub fn is_final(error: &KafkaError, reason: &str) -> bool {
    let code = error.rdkafka_error_code();
    let refused = matches!(
        code,
        Some(
            RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SSL
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
        )
    );
    (refused && !reason.contains("OAUTHBEARER token")) || reason.contains("SSL alert number")
}

/// The way out for properties that librdkafka refuses.
pub fn property_hint(message: &str) -> &'static str {
    if message.contains("ssl.key") {
        "the key cannot be read: look at the file, at `ssl.key.password`, and whether the key belongs to the certificate"
    } else if message.contains("ssl.") {
        "look at that file: it must be there, readable and PEM"
    } else {
        "librdkafka's property names are listed in its CONFIGURATION.md"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_a_broker_that_is_not_there() {
        let error = KafkaError::Global(RDKafkaErrorCode::Authentication);
        assert!(is_final(&error, "SASL authentication error: Authentication failed"));
        assert!(!is_final(&error, "Failed to acquire SASL OAUTHBEARER token: Couldn't connect to server"));
        let error = KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure);
        assert!(is_final(&error, "Receive failed: SSL routines::sslv3 alert bad certificate: SSL alert number 42"));
        assert!(!is_final(&error, "Connect to ipv4#127.0.0.1:1 failed: Connection refused"));
    }

    #[test]
    fn words_that_nobody_knows_name_all_properties() {
        assert!(way_out("x").contains("`security.protocol`"));
        assert!(way_out("Receive failed: sslv3 alert bad certificate: SSL alert number 42").contains("`ssl.certificate.location`"));
    }
}
