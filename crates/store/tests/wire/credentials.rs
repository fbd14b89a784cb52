//! Every source of credentials, against stand-ins for those who give them. Each runs in a process of its own, because the
//! environment is read by the SDK.

use crate::stand_in::{Asked, Reply, StandIn, answer, error, well};
use bytes::Bytes;
use kas3_store::{Created, PART_BYTES, PutOptions, StorageSettings, Store, Unobserved};
use std::sync::Arc;

/// Long after every test.
const NEVER: &str = "2099-01-01T00:00:00Z";

/// What the child does; it is a test of this binary, idle without `KAS3_CHILD`.
#[tokio::test]
async fn child() {
    let Ok(settings) = std::env::var("KAS3_CHILD") else { return };
    let settings: StorageSettings = serde_json::from_str(&settings).unwrap();
    let store = Store::open("s3://lake", &settings, Arc::new(Unobserved)).await.unwrap();
    let options = PutOptions::data("text/plain");
    let upload = store.begin_upload("up", "staged", &options).await.unwrap();
    let first = store.put_part("up", &upload, 1, Bytes::from(vec![0; PART_BYTES])).await.unwrap();
    // Long enough for credentials to count as used, and to expire.
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    let last = store.put_part("up", &upload, 2, Bytes::from_static(b"x")).await.unwrap();
    store.complete_upload("up", &upload, &[first, last], &options).await.unwrap();
    assert!(matches!(store.create("a", Bytes::from_static(b"x"), &options).await.unwrap(), Created::Done(_)));
}

async fn run(settings: serde_json::Value, environment: &[(&str, String)]) -> Result<(), String> {
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "credentials::child", "--nocapture"]).env_clear().env("KAS3_CHILD", settings.to_string()).env("PATH", "/usr/bin:/bin");
    // Without a home and an instance of its own, a test finds nothing that it did not bring.
    child.env("HOME", "/nonexistent").env("AWS_EC2_METADATA_DISABLED", "true");
    for (name, value) in environment {
        child.env(name, value);
    }
    let output = child.output().await.unwrap();
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
    }
}

fn settings(store: &StandIn) -> serde_json::Value {
    serde_json::json!({"endpoint": store.url(), "allow_http": true, "region": "eu-north-1", "max_attempts": 4})
}

fn with(mut settings: serde_json::Value, more: serde_json::Value) -> serde_json::Value {
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

/// Who signed a request.
fn signer(asked: &Asked) -> String {
    let authorization = asked.header("authorization").unwrap();
    authorization.split("Credential=").nth(1).unwrap().split('/').next().unwrap().to_owned()
}

/// All requests to the store were signed with this key and token.
fn assert_signed(store: &StandIn, key: &str, token: Option<&str>) {
    let asked = store.asked();
    assert_eq!(asked.len(), 5, "begin, two parts, completion, create");
    for asked in asked {
        assert_eq!((signer(&asked).as_str(), asked.header("x-amz-security-token")), (key, token));
    }
}

async fn store() -> StandIn {
    StandIn::start(|asked, _| well(asked)).await
}

fn own(name: &'static str, value: impl Into<String>) -> (&'static str, String) {
    (name, value.into())
}

fn keys() -> [(&'static str, String); 2] {
    [own("AWS_ACCESS_KEY_ID", "AKIDENV"), own("AWS_SECRET_ACCESS_KEY", "secret")]
}

fn sts_answer(action: &str, key: &str) -> Reply {
    let credentials = format!(
        "<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>token-{key}</SessionToken><Expiration>{NEVER}</Expiration></Credentials>"
    );
    let user = "<AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/kas3/s</Arn><AssumedRoleId>id:s</AssumedRoleId></AssumedRoleUser>";
    let namespace = "https://sts.amazonaws.com/doc/2011-06-15/";
    answer(200, &format!("<{action}Response xmlns=\"{namespace}\"><{action}Result>{credentials}{user}</{action}Result></{action}Response>"))
}

#[tokio::test]
async fn keys_of_the_environment_sign() {
    let store = store().await;
    run(settings(&store), &[&keys()[..], &[own("AWS_SESSION_TOKEN", "t")]].concat()).await.unwrap();
    assert_signed(&store, "AKIDENV", Some("t"));
}

#[tokio::test]
async fn keys_of_the_settings_win_over_the_environment() {
    let store = store().await;
    let settings = with(settings(&store), serde_json::json!({"access_key_id": "AKIDSET", "secret_access_key": "s", "session_token": "t"}));
    run(settings, &keys()).await.unwrap();
    assert_signed(&store, "AKIDSET", Some("t"));
}

#[tokio::test]
async fn a_profile_that_is_asked_for_wins_over_the_environment_and_may_run_a_process() {
    let folder = tempfile::tempdir().unwrap();
    let answer = folder.path().join("answer.json");
    let text = serde_json::json!({"Version": 1, "AccessKeyId": "AKIDPROC", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": NEVER});
    std::fs::write(&answer, text.to_string()).unwrap();
    let config = folder.path().join("config");
    std::fs::write(&config, format!("[profile lake]\nregion = eu-west-3\ncredential_process = cat {}\n", answer.display())).unwrap();
    let store = store().await;
    let mut settings = with(settings(&store), serde_json::json!({"profile": "lake"}));
    settings.as_object_mut().unwrap().remove("region");
    run(settings, &[&keys()[..], &[own("AWS_CONFIG_FILE", config.display().to_string())]].concat()).await.unwrap();
    assert_signed(&store, "AKIDPROC", Some("t"));
    assert!(store.asked()[0].header("authorization").unwrap().contains("/eu-west-3/s3/"), "the profile's region is used");
}

#[tokio::test]
async fn an_sso_session_is_turned_into_credentials() {
    let sso = StandIn::start(|_, _| {
        let credentials =
            serde_json::json!({"accessKeyId": "AKIDSSO", "secretAccessKey": "s", "sessionToken": "t", "expiration": 4_070_908_800_000_i64});
        answer(200, &serde_json::json!({"roleCredentials": credentials}).to_string())
    })
    .await;
    let home = tempfile::tempdir().unwrap();
    let cache = home.path().join(".aws/sso/cache");
    std::fs::create_dir_all(&cache).unwrap();
    let start = "https://example.awsapps.com/start";
    let token = serde_json::json!({"accessToken": "sso-token", "expiresAt": NEVER, "startUrl": start, "region": "eu-north-1"}).to_string();
    // Named after the SHA-1 of the start URL.
    std::fs::write(cache.join("e8be5486177c5b5392bd9aa76563515b29358e6e.json"), &token).unwrap();
    let profile = format!("[default]\nsso_start_url = {start}\nsso_region = eu-north-1\nsso_account_id = 123456789012\nsso_role_name = kas3\n");
    std::fs::write(home.path().join(".aws/config"), profile).unwrap();
    let store = store().await;
    let environment = [own("HOME", home.path().display().to_string()), own("AWS_ENDPOINT_URL_SSO", sso.url())];
    run(settings(&store), &environment).await.unwrap();
    assert_signed(&store, "AKIDSSO", Some("t"));
    let asked = &sso.asked()[0];
    assert_eq!(asked.header("x-amz-sso_bearer_token"), Some("sso-token"));
    assert!(asked.target.contains("role_name=kas3") && asked.target.contains("account_id=123456789012"), "{}", asked.target);
}

#[tokio::test]
async fn a_web_identity_is_turned_into_credentials() {
    let sts = StandIn::start(|_, _| sts_answer("AssumeRoleWithWebIdentity", "AKIDWEB")).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "jwt").unwrap();
    let store = store().await;
    let environment = [
        own("AWS_WEB_IDENTITY_TOKEN_FILE", file.display().to_string()),
        own("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/web"),
        own("AWS_ENDPOINT_URL_STS", sts.url()),
    ];
    run(settings(&store), &environment).await.unwrap();
    assert_signed(&store, "AKIDWEB", Some("token-AKIDWEB"));
    let asked = sts.asked()[0].text();
    assert!(asked.contains("Action=AssumeRoleWithWebIdentity") && asked.contains("WebIdentityToken=jwt"), "{asked}");
}

#[tokio::test]
async fn a_container_gives_credentials_and_new_ones_when_they_expire_in_the_middle_of_an_upload() {
    let container = StandIn::start(|_, number| {
        let key = if number == 0 { "AKIDOLD" } else { "AKIDNEW" };
        answer(200, &serde_json::json!({"AccessKeyId": key, "SecretAccessKey": "s", "Token": "t", "Expiration": NEVER}).to_string())
    })
    .await;
    let store =
        StandIn::start(|asked, number| if number >= 2 && signer(asked) == "AKIDOLD" { error(400, "ExpiredToken", "x") } else { well(asked) }).await;
    let full = format!("{}/credentials", container.url());
    let environment = [own("AWS_CONTAINER_CREDENTIALS_FULL_URI", full), own("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-token")];
    run(settings(&store), &environment).await.unwrap();
    let signers: Vec<String> = store.asked().iter().map(signer).collect();
    assert_eq!(signers, ["AKIDOLD", "AKIDOLD", "AKIDOLD", "AKIDNEW", "AKIDNEW", "AKIDNEW"]);
    assert_eq!(container.asked().len(), 2, "credentials are kept, not asked for at every request");
    assert_eq!(container.asked()[0].header("authorization"), Some("pod-token"));
}

#[tokio::test]
async fn an_instance_gives_credentials() {
    let instance = StandIn::start(|asked, _| match asked.target.as_str() {
        "/latest/api/token" => answer(200, "imds-token").with("x-aws-ec2-metadata-token-ttl-seconds", "21600"),
        path if path.ends_with("/security-credentials/") => answer(200, "kas3-role"),
        path if path.contains("kas3-role") => {
            let credentials = serde_json::json!({"Code": "Success", "LastUpdated": "2026-01-01T00:00:00Z", "Type": "AWS-HMAC", "AccessKeyId": "AKIDEC2",
                "SecretAccessKey": "s", "Token": "t", "Expiration": NEVER});
            answer(200, &credentials.to_string())
        }
        _ => answer(404, ""),
    })
    .await;
    let store = store().await;
    let environment = [own("AWS_EC2_METADATA_DISABLED", "false"), own("AWS_EC2_METADATA_SERVICE_ENDPOINT", instance.url())];
    run(settings(&store), &environment).await.unwrap();
    assert_signed(&store, "AKIDEC2", Some("t"));
    assert!(instance.asked().iter().skip(1).all(|asked| asked.header("x-aws-ec2-metadata-token") == Some("imds-token")));
}

#[tokio::test]
async fn a_role_is_assumed_with_the_external_id_over_the_credentials_found() {
    let sts = StandIn::start(|_, _| sts_answer("AssumeRole", "AKIDROLE")).await;
    let store = store().await;
    let role = serde_json::json!({"role_arn": "arn:aws:iam::123456789012:role/kas3", "external_id": "ext-42", "role_session_name": "sink"});
    run(with(settings(&store), role), &[&keys()[..], &[own("AWS_ENDPOINT_URL_STS", sts.url())]].concat()).await.unwrap();
    assert_signed(&store, "AKIDROLE", Some("token-AKIDROLE"));
    let asked = &sts.asked()[0];
    assert_eq!((sts.asked().len(), signer(asked).as_str()), (1, "AKIDENV"));
    let body = asked.text();
    for part in ["Action=AssumeRole&", "role%2Fkas3", "ExternalId=ext-42", "RoleSessionName=sink"] {
        assert!(body.contains(part), "{part} is missing in {body}");
    }
}

#[tokio::test]
async fn a_role_that_may_not_be_assumed_and_missing_credentials_are_explained() {
    let sts = StandIn::start(|_, _| {
        answer(
            403,
            "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>",
        )
    })
    .await;
    let store = store().await;
    let role = serde_json::json!({"role_arn": "arn:aws:iam::123456789012:role/kas3"});
    let denied = run(with(settings(&store), role), &[&keys()[..], &[own("AWS_ENDPOINT_URL_STS", sts.url())]].concat()).await.unwrap_err();
    assert!(denied.contains("Denied: ") && denied.contains("AccessDenied"), "{denied}");
    let none = run(settings(&store), &[]).await.unwrap_err();
    assert!(none.contains("Denied: ") && none.contains("no AWS credentials"), "{none}");
    assert!(store.asked().is_empty());
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_used_unless_the_host_is_excluded() {
    let proxy = StandIn::start(|_, _| answer(502, "")).await;
    let settings = serde_json::json!({"endpoint": "https://store.invalid", "region": "x", "max_attempts": 1});
    let through = |more: &[(&'static str, String)]| [&keys()[..], &[own("HTTPS_PROXY", proxy.url())], more].concat();
    run(settings.clone(), &through(&[])).await.unwrap_err();
    assert_eq!(proxy.asked().iter().map(|asked| format!("{} {}", asked.method, asked.target)).collect::<Vec<_>>(), ["CONNECT store.invalid:443"]);
    run(settings, &through(&[own("NO_PROXY", "store.invalid")])).await.unwrap_err();
    assert_eq!(proxy.asked().len(), 1);
}

#[tokio::test]
async fn the_endpoint_of_the_environment_is_used_and_held_to_the_same_rules() {
    let store = store().await;
    let environment = [&keys()[..], &[own("AWS_ENDPOINT_URL_S3", store.url())]].concat();
    run(serde_json::json!({"allow_http": true}), &environment).await.unwrap();
    assert_signed(&store, "AKIDENV", None);
    assert!(store.asked()[0].target.starts_with("/lake/up"), "path style with an endpoint");
    let refused = run(serde_json::json!({}), &environment).await.unwrap_err();
    assert!(refused.contains("allow_http"), "{refused}");
}
