//! A server that stands in for what MinIO lacks: it records requests and answers what a test wants to see handled.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream},
    net::TcpListener,
};
use tokio_rustls::{TlsAcceptor, rustls};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query, or what a proxy is asked for.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn header_names(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|(key, _)| key.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What to answer.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// Headers and the beginning of a body, then the connection is cut.
    CutShort(Vec<u8>),
    /// A body in two pieces, with a while between them.
    Halting(Duration, Vec<u8>),
    /// The connection is cut without an answer.
    Cut,
    /// No answer for a minute.
    Silence,
    /// An answer after a while.
    Later(Duration, Box<Reply>),
}

pub(crate) fn answer(status: u16, body: &str) -> Reply {
    Reply::Answer { status, headers: Vec::new(), body: body.as_bytes().to_vec() }
}

/// An error as S3 writes it.
pub(crate) fn error(status: u16, code: &str, message: &str) -> Reply {
    answer(status, &format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"))
}

impl Reply {
    pub(crate) fn with(mut self, name: &str, value: &str) -> Reply {
        if let Reply::Answer { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }
}

/// What a store that is well answers.
pub(crate) fn well(asked: &Asked) -> Reply {
    match asked.method.as_str() {
        "POST" if asked.target.contains("uploads") => {
            answer(200, "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>upload-1</UploadId></InitiateMultipartUploadResult>")
        }
        "POST" => answer(200, "<CompleteMultipartUploadResult><ETag>\"done-2\"</ETag></CompleteMultipartUploadResult>"),
        "PUT" => answer(200, "").with("ETag", "\"etag\""),
        "HEAD" => answer(200, "").with("ETag", "\"etag\""),
        "DELETE" => answer(204, ""),
        _ => answer(200, "body").with("ETag", "\"etag\""),
    }
}

type Handler = Arc<dyn Fn(&Asked, usize) -> Reply + Send + Sync>;

/// A running server; it ends with the test.
pub(crate) struct StandIn {
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
}

impl StandIn {
    /// Answers with what `handler` says of a request and its number, from 0.
    pub(crate) async fn start(handler: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> StandIn {
        StandIn::listen(Arc::new(handler), None).await
    }

    /// The same behind TLS; also gives the authority's certificate as PEM.
    pub(crate) async fn start_tls(handler: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> (StandIn, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let pem = made.cert.pem();
        (StandIn::listen(Arc::new(handler), Some(TlsAcceptor::from(Arc::new(config)))).await, pem)
    }

    async fn listen(handler: Handler, tls: Option<TlsAcceptor>) -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let all = asked.clone();
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                let (handler, all, tls) = (handler.clone(), all.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, handler, all).await;
                            }
                        }
                        None => serve(stream, handler, all).await,
                    }
                });
            }
        });
        StandIn { address, asked, connections }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections that were made to it so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, handler: Handler, all: Arc<Mutex<Vec<Asked>>>) {
    let mut stream = BufStream::new(stream);
    while let Some(asked) = read(&mut stream).await {
        let number = {
            let mut all = all.lock().unwrap();
            all.push(asked.clone());
            all.len() - 1
        };
        let mut told = handler(&asked, number);
        while let Reply::Later(wait, then) = told {
            tokio::time::sleep(wait).await;
            told = *then;
        }
        if !tell(&mut stream, told, asked.method == "HEAD").await {
            return;
        }
    }
}

async fn read(stream: &mut BufStream<impl AsyncRead + AsyncWrite + Unpin>) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|bytes| *bytes > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut asked = Asked { method, target, headers, body: Vec::new() };
    if asked.header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
        stream.flush().await.ok()?;
    }
    let length = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
    assert!(asked.header("transfer-encoding").is_none(), "bodies come with their length: {asked:?}");
    asked.body = vec![0; length];
    stream.read_exact(&mut asked.body).await.ok()?;
    Some(asked)
}

/// Whether the connection goes on.
async fn tell(stream: &mut BufStream<impl AsyncRead + AsyncWrite + Unpin>, told: Reply, head: bool) -> bool {
    let mut halt = None;
    let (status, headers, body, whole) = match told {
        Reply::Halting(wait, body) => {
            halt = Some(wait);
            (200, vec![("ETag".to_owned(), "\"etag\"".to_owned())], body, true)
        }
        Reply::Answer { status, headers, body } => (status, headers, body, true),
        Reply::CutShort(body) => (200, vec![("ETag".to_owned(), "\"etag\"".to_owned())], body, false),
        Reply::Cut | Reply::Later(..) => return false,
        Reply::Silence => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            return false;
        }
    };
    let length = if whole { body.len() } else { body.len() + 100 };
    let mut text = format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n", if status == 204 { 0 } else { length });
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let sent = async {
        stream.write_all(text.as_bytes()).await?;
        if !head {
            let (begin, end) = body.split_at(if halt.is_some() { body.len() / 2 } else { 0 });
            stream.write_all(begin).await?;
            if let Some(wait) = halt {
                stream.flush().await?;
                tokio::time::sleep(wait).await;
            }
            stream.write_all(end).await?;
        }
        stream.flush().await
    };
    sent.await.is_ok() && whole
}
