//! What `make bench BENCH=claims` measures with: bare requests, the claim check's Producer and Consumer, and bare records, each
//! in a process of its own. Prints one line of JSON.
//!
//! ```text
//! claims put URLS BYTES CONCURRENCY            PUT to each (presigned) URL of the file, SHA-256 computed
//! claims get URLS CONCURRENCY                  GET each URL of the file, SHA-256 computed
//! claims produce TOPIC STORE BYTES COUNT [PART_BYTES]   through a Producer (BYTES of 0 and below its inline limit stay in records)
//! claims consume TOPIC STORE COUNT             through a Consumer
//! claims records TOPIC BYTES COUNT             bare records through librdkafka
//! claims inline TOPIC STORE BYTES COUNT        the same records through a Producer
//! ```
//! Brokers, endpoint and keys come from the environment, as `dev/services` sets it.

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use kas3_claimcheck::{
    ClaimCheckSettings, StorageSettings,
    kafka::{
        Consumer, ConsumerSettings, Incoming, Outgoing, Producer, ProducerSettings,
        rdkafka::{
            ClientConfig,
            error::{KafkaError, RDKafkaErrorCode},
            producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
        },
    },
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    env,
    error::Error,
    time::{Duration, Instant},
};

type Fallible<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const LONG: Duration = Duration::from_secs(600);

fn main() -> Fallible {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut begun = Instant::now();
    let (payloads, bytes) = match words[..] {
        ["put", urls, bytes, concurrency] => runtime()?.block_on(put(urls, bytes.parse()?, concurrency.parse()?))?,
        ["get", urls, concurrency] => runtime()?.block_on(get(urls, concurrency.parse()?))?,
        ["produce" | "inline", topic, store, bytes, count] => produce(topic, store, bytes.parse()?, count.parse()?)?,
        ["consume", topic, store, count] => consume(topic, store, count.parse()?, &mut begun)?,
        ["records", topic, bytes, count] => records(topic, bytes.parse()?, count.parse()?)?,
        _ => return Err("see the head of the source for the arguments".into()),
    };
    let seconds = begun.elapsed().as_secs_f64();
    let result =
        serde_json::json!({"payloads": payloads, "bytes": bytes, "seconds": seconds, "cpu_seconds": cpu_seconds()?, "peak_bytes": peak_bytes()?});
    std::io::Write::write_all(&mut std::io::stdout(), format!("{result}\n").as_bytes())?;
    Ok(())
}

fn runtime() -> Fallible<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn variable(name: &str) -> Fallible<String> {
    env::var(name).map_err(|_| format!("{name} is not set: run it with `dev/services run`").into())
}

/// A payload that no other one equals.
fn payload(number: usize, bytes: usize, pattern: &[u8]) -> Vec<u8> {
    let mut payload = pattern[..bytes].to_vec();
    let stamp = number.to_le_bytes();
    let length = bytes.min(stamp.len());
    payload[..length].copy_from_slice(&stamp[..length]);
    payload
}

fn pattern(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(bytes).collect()
}

async fn put(urls: &str, bytes: usize, concurrency: usize) -> Fallible<(usize, usize)> {
    let urls: Vec<String> = std::fs::read_to_string(urls)?.lines().map(str::to_owned).collect();
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let pattern = std::sync::Arc::new(pattern(bytes));
    let count = urls.len();
    let sent = stream::iter(urls.into_iter().enumerate()).map(|(number, url)| {
        let (client, pattern) = (client.clone(), pattern.clone());
        tokio::spawn(async move {
            let body = Bytes::from(payload(number, bytes, &pattern));
            std::hint::black_box(Sha256::digest(&body));
            let answer = client.request(hyper::Request::put(url).body(Full::new(body))?).await?;
            let status = answer.status();
            answer.into_body().collect().await?;
            if status.is_success() { Fallible::Ok(()) } else { Err(format!("the store answered {status}").into()) }
        })
    });
    let mut sent = sent.buffer_unordered(concurrency);
    while let Some(one) = sent.next().await {
        one??;
    }
    Ok((count, count * bytes))
}

async fn get(urls: &str, concurrency: usize) -> Fallible<(usize, usize)> {
    let urls: Vec<String> = std::fs::read_to_string(urls)?.lines().map(str::to_owned).collect();
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let count = urls.len();
    let read = stream::iter(urls).map(|url| {
        let client = client.clone();
        tokio::spawn(async move {
            let answer = client.request(hyper::Request::get(url).body(Full::default())?).await?;
            if !answer.status().is_success() {
                return Err(format!("the store answered {}", answer.status()).into());
            }
            let mut body = answer.into_body();
            let (mut whole, mut sha) = (Vec::new(), Sha256::new());
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame?.into_data() {
                    sha.update(&data);
                    whole.extend_from_slice(&data);
                }
            }
            std::hint::black_box(sha.finalize());
            Fallible::Ok(whole.len())
        })
    });
    let mut read = read.buffer_unordered(concurrency);
    let mut bytes = 0;
    while let Some(one) = read.next().await {
        bytes += one??;
    }
    Ok((count, bytes))
}

fn claim_check(store: &str) -> Fallible<ClaimCheckSettings> {
    let endpoint = env::var("CLAIMS_ENDPOINT").or_else(|_| variable("S3_ENDPOINT_URL"))?;
    let storage = StorageSettings { endpoint: Some(endpoint), allow_http: true, ..StorageSettings::default() };
    Ok(ClaimCheckSettings { url: store.to_owned(), storage, max_inline_bytes: 10_000, ..ClaimCheckSettings::default() })
}

fn kafka(more: &[(&str, &str)]) -> Fallible<BTreeMap<String, String>> {
    let mut kafka: BTreeMap<String, String> = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    kafka.insert("bootstrap.servers".to_owned(), variable("KAFKA_BOOTSTRAP_SERVERS")?);
    Ok(kafka)
}

fn produce(topic: &str, store: &str, bytes: usize, count: usize) -> Fallible<(usize, usize)> {
    let mut settings =
        ProducerSettings { claim_check: claim_check(store)?, kafka: kafka(&[])?, send_timeout_ms: 600_000, ..ProducerSettings::default() };
    if let Ok(memory) = env::var("CLAIMS_MEMORY_BYTES") {
        settings.memory_bytes = memory.parse()?;
    }
    let producer = Producer::open(settings)?;
    let pattern = pattern(bytes);
    for number in 0..count {
        producer.send(Outgoing::new(topic, payload(number, bytes, &pattern)), None)?;
    }
    match producer.close(LONG) {
        0 => Ok((count, count * bytes)),
        left => Err(format!("{left} records were not delivered").into()),
    }
}

/// The clock begins with the first record: how long a group takes to form is the brokers' business.
fn consume(topic: &str, store: &str, count: usize, begun: &mut Instant) -> Fallible<(usize, usize)> {
    let group = format!("claims-{}", std::process::id());
    let kafka = kafka(&[("group.id", &group), ("auto.offset.reset", "earliest"), ("enable.auto.commit", "false")])?;
    let mut settings = ConsumerSettings { claim_check: claim_check(store)?, kafka, ..ConsumerSettings::default() };
    if let Ok(memory) = env::var("CLAIMS_MEMORY_BYTES") {
        settings.memory_bytes = memory.parse()?;
    }
    let consumer = Consumer::open(settings)?;
    consumer.subscribe(&[topic], None)?;
    let mut bytes = 0;
    for number in 0..count {
        let received = consumer.poll(LONG).map_err(|failed| failed.to_string())?.ok_or("no record came in time")?;
        if number == 0 {
            *begun = Instant::now();
        }
        if let Incoming::Bytes(payload) = received.payload {
            bytes += payload.len();
        }
    }
    consumer.commit()?;
    Ok((count, bytes))
}

fn records(topic: &str, bytes: usize, count: usize) -> Fallible<(usize, usize)> {
    let mut config = ClientConfig::new();
    config.extend(kafka(&[("enable.idempotence", "true")])?);
    let producer: ThreadedProducer<DefaultProducerContext> = config.create()?;
    let pattern = pattern(bytes);
    for number in 0..count {
        let payload = payload(number, bytes, &pattern);
        while let Err((error, _)) = producer.send(BaseRecord::<[u8], [u8]>::to(topic).payload(&payload)) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    producer.flush(LONG)?;
    Ok((count, count * bytes))
}

/// User and system time of this process: fields 14 and 15 of `stat`, in hundredths of a second.
fn cpu_seconds() -> Fallible<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit_once(')').ok_or("no stat")?.1;
    let ticks: Vec<u32> = after.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(f64::from(ticks.iter().sum::<u32>()) / 100.0)
}

fn peak_bytes() -> Fallible<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no peak")?;
    Ok(peak.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
