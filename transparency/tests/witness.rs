//! Asking witnesses: one that answers as a script says, since a real one (tests/e2e/witness.rs) does not misbehave.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::Arc;

use event_log::memory::MemoryLog;
use event_log::{Batch, EventLog, NewRecord};
use ledger_core::time::Moment;
use tlog_tiles::{Hash, check_tree};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use transparency::{Quorum, Sealer, Witnesses, make_key};

/// A key of a witness; nobody has the secret one.
const KEY: &str = "witness.example.com/w1+a0059f11+BAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
const OTHER: &str = "— witness.example.com/w2 AAAAAQAAAABrDqbkdEK5KEju4PH6yrFOYKW64cZ9zhOZAGqsG+gifFmLf3T8RKPYGpyTHWQgqumSKqzOVM8LSUONdSOJRkiasQpXDA==\n";
/// It is of `KEY`, but signs another checkpoint.
const STALE: &str = "— witness.example.com/w1 oAWfEQAAAABrDqbkdEK5KEju4PH6yrFOYKW64cZ9zhOZAGqsG+gifFmLf3T8RKPYGpyTHWQgqumSKqzOVM8LSUONdSOJRkiasQpXDA==\n";

/// Answers request after request as `script` says, then hears no more; gives its URL and what was asked.
async fn serve(script: Vec<(u16, String)>) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answers = tokio::spawn(async move {
        let mut asked = Vec::new();
        for (status, body) in script {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            // The body ends with the only signature's line.
            while !(bytes.ends_with(b"=\n") && String::from_utf8_lossy(&bytes).contains("\n\n— ")) {
                let mut some = [0; 4096];
                let count = stream.read(&mut some).await.unwrap();
                assert!(count > 0, "a request is whole");
                bytes.extend_from_slice(&some[..count]);
            }
            asked.push(String::from_utf8(bytes).unwrap());
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            // Who has heard enough goes away.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        asked
    });
    (url, answers)
}

struct Sealed {
    folder: tempfile::TempDir,
    sealer: Sealer,
    /// The root of the heads after each seal.
    roots: Vec<Hash>,
}

impl Sealed {
    /// A book of `heads` checkpoints.
    async fn with(heads: u64) -> Self {
        embedded_postgres::use_ring();
        let folder = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(folder.path(), &make_key("test.example/book").0).unwrap();
        let mut sealed = Self { folder, sealer, roots: Vec::new() };
        let log = MemoryLog::new(1);
        let mut writer = log.acquire("test").await.unwrap();
        for position in 0..heads {
            let record = NewRecord { partition: 0, position, account: "shop/a".into(), account_seq: 1, body: vec![1] };
            writer.append(Arc::new(Batch { records: vec![record], ..Batch::default() })).await.unwrap();
            sealed.sealer.seal(&log, Moment::default()).await.unwrap();
            sealed.roots.push(Hash::parse_hash(sealed.checkpoint().lines().nth(2).unwrap()).unwrap());
        }
        sealed
    }

    fn checkpoint(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("checkpoint")).unwrap()
    }

    async fn cosign(&self, url: &str) -> usize {
        self.sealer.cosign(&mut Witnesses::parse(&[format!("{KEY}@{url}")]).unwrap()).await.unwrap()
    }
}

#[tokio::test]
async fn a_request_is_as_the_standard_has_it_and_a_409_tells_from_which_size() {
    // More heads than a tile has.
    let sealed = Sealed::with(300).await;
    for old in [3_u64, 255, 256, 257, 300] {
        let (url, asked) = serve(vec![(409, format!("{old}\n")), (200, OTHER.into())]).await;
        assert_eq!(sealed.cosign(&format!("{url}/w/")).await, 0, "there is a line, of another witness");
        let asked = asked.await.unwrap();
        assert!(asked.iter().all(|request| request.starts_with("POST /w/add-checkpoint HTTP/1.1\r\n")), "{asked:?}");
        let bodies: Vec<&str> = asked.iter().map(|request| request.split_once("\r\n\r\n").unwrap().1).collect();
        assert_eq!(bodies[0], format!("old 0\n\n{}", sealed.checkpoint()));
        let (lines, note) = bodies[1].split_once("\n\n").unwrap();
        let (first, proof) = lines.split_once('\n').unwrap_or((lines, ""));
        assert_eq!((first, note), (&*format!("old {old}"), &*sealed.checkpoint()));
        let proof = proof.lines().map(|hash| Hash::parse_hash(hash).unwrap()).collect();
        let root = |size: u64| sealed.roots[usize::try_from(size).unwrap() - 1];
        check_tree(&proof, 300, root(300), old, root(old)).unwrap();
        assert_eq!(proof.is_empty(), old == 300, "{old}");
    }
}

#[tokio::test]
async fn whatever_a_witness_answers_the_checkpoint_stays_as_it_was_signed() {
    let sealed = Sealed::with(2).await;
    let signed = sealed.checkpoint();
    let conflicts = |sizes: [u32; 3]| sizes.map(|size| (409, format!("{size}\n"))).to_vec();
    for script in [
        vec![(200, String::new())],
        vec![(200, "no signature\n".into())],
        vec![(200, STALE.into())],
        vec![(200, OTHER.repeat(200))],
        vec![(200, "x".repeat(100_000))],
        vec![(409, "many\n".into())],
        vec![(409, "9\n".into())],
        conflicts([1, 2, 1]),
        vec![(403, String::new())],
        vec![(404, String::new())],
        vec![(422, String::new())],
        vec![(500, "down".into())],
        vec![(307, String::new())],
    ] {
        let (url, asked) = serve(script.clone()).await;
        assert_eq!((sealed.cosign(&url).await, sealed.checkpoint()), (0, signed.clone()), "{script:?}");
        assert_eq!(asked.await.unwrap().len(), script.len(), "{script:?}");
    }
    let why = Quorum::of(&[KEY.into()], None).unwrap().check(signed.as_bytes()).unwrap_err().to_string();
    assert!(why.contains("witness.example.com/w1 did not cosign it"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_witness_that_never_answers_is_given_up() {
    let sealed = Sealed::with(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let begin = tokio::time::Instant::now();
    assert_eq!(sealed.cosign(&url).await, 0);
    // Its clock goes on only while nothing else can.
    assert_eq!(begin.elapsed().as_secs(), 5);
}

#[test]
fn a_witness_that_can_be_none_is_told() {
    embedded_postgres::use_ring();
    let parse = |texts: &[String]| Witnesses::parse(texts).err().map(|error| error.to_string()).unwrap_or_default();
    let here = format!("{KEY}@https://w1.example/submit");
    assert_eq!(parse(std::slice::from_ref(&here)), "");
    for (text, why) in [
        (KEY.to_owned(), "is not VKEY@URL"),
        (format!("{KEY}@ftp://w1.example"), "is not VKEY@URL"),
        (format!("{KEY}@http://"), "has a URL that is none"),
        (format!("{}@http://w1.example", &KEY[1..]), "has an id that is not the one of its name and key"),
    ] {
        let told = parse(std::slice::from_ref(&text));
        assert!(told.contains(why), "{text}: {told}");
    }
    assert!(parse(&[here.clone(), here]).contains("have the same public key"));
}
