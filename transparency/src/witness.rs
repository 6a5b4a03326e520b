//! Asking witnesses for cosignatures (C2SP tlog-witness).

use std::mem::{Discriminant, discriminant};
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reqwest::StatusCode;
use signed_note::{Note, Verifier as _};

use crate::AuditError;
use crate::cosignature::{Cosigner, require_distinct};
use crate::head::encode;
use crate::tree::{Tree, write};

/// How long a witness may take to answer. All are asked at once, so the next seal is made so much later at most.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// A cosignature takes some hundred bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Enough for a guess at the size that the witness knows, and for somebody else who asks it at the same moment.
const REQUESTS_MAX: usize = 3;
/// With the log's own, 16 signatures: as many as every verifier of signed notes accepts.
const WITNESSES_MAX: usize = 15;

/// Why there is no cosignature.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("it can't be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("it did not answer within {} s", ANSWERS_WITHIN.as_secs())]
    Slow,
    #[error("it answered {0}: is its URL right?")]
    Status(StatusCode),
    #[error("it answered {0}: it does not know the log {1:?} by this key; give its operator the public key")]
    Unknown(StatusCode, String),
    #[error("it answered that these checkpoints do not extend those that it has cosigned: it knows another history of this log")]
    Forked,
    #[error("it has cosigned {known} checkpoints of this log, which has {size}: this is an older copy of the seal, or the key seals somewhere else, too")]
    Ahead { known: u64, size: u64 },
    #[error("its answer makes no sense: {0}")]
    Nonsense(String),
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl Failure {
    /// Failures are of one kind where telling of the second adds nothing.
    fn kind(&self) -> (Discriminant<Self>, Option<StatusCode>) {
        let status = match self {
            Self::Status(status) | Self::Unknown(status, _) => Some(*status),
            _ => None,
        };
        (discriminant(self), status)
    }
}

/// What all witnesses are asked.
struct Asked<'a> {
    folder: &'a Path,
    size: u64,
    /// The checkpoint with the log's own signature.
    note: &'a str,
}

impl Asked<'_> {
    fn body(&self, old: u64) -> Result<String, AuditError> {
        let proof = if old == 0 { Vec::new() } else { Tree::open(self.folder, self.size).prove_extends(old)? };
        let proof: String = proof.iter().map(|hash| encode(hash) + "\n").collect();
        Ok(format!("old {old}\n{proof}\n{}", self.note))
    }

    fn origin(&self) -> String {
        self.note.lines().next().unwrap_or_default().to_owned()
    }
}

struct Witness {
    cosigner: Cosigner,
    url: reqwest::Url,
    /// How many heads the last checkpoint has that it is known to have cosigned.
    size: u64,
    /// Of which kind the last answer was; none before the first one.
    told: Option<Result<(), FailureKind>>,
}

/// Of failures of one kind, the first is told.
type FailureKind = (Discriminant<Failure>, Option<StatusCode>);

impl Witness {
    fn parse(text: &str) -> Result<Self, AuditError> {
        let wrong = |why: String| AuditError::Witness(format!("the witness {text:?} {why}"));
        let at = ["@https://", "@http://"].iter().find_map(|scheme| text.find(scheme));
        let (key, url) = at.map(|at| (&text[..at], &text[at + 1..])).ok_or_else(|| wrong("is not VKEY@URL, with a URL of http or https".into()))?;
        let no_url = |error| wrong(format!("has a URL that is none: {error}"));
        let prefix: reqwest::Url = url.trim().parse().map_err(no_url)?;
        let url = format!("{}/add-checkpoint", prefix.as_str().trim_end_matches('/')).parse().map_err(no_url)?;
        Ok(Self { cosigner: Cosigner::parse(key)?, url, size: 0, told: None })
    }

    /// The line of its cosignature; none where it gave none in time, which is told.
    async fn answer(&mut self, client: &reqwest::Client, asked: &Asked<'_>) -> Option<String> {
        let answer = tokio::time::timeout(ANSWERS_WITHIN, self.ask(client, asked)).await.unwrap_or(Err(Failure::Slow));
        self.tell(answer.as_ref().map(drop));
        answer.ok()
    }

    async fn ask(&mut self, client: &reqwest::Client, asked: &Asked<'_>) -> Result<String, Failure> {
        for _ in 0..REQUESTS_MAX {
            // Where the size is not known, the guess 0 is answered with it.
            let old = if self.size > asked.size { 0 } else { self.size };
            let request = client.post(self.url.clone()).body(asked.body(old)?);
            let response = request.send().await.map_err(|error| Failure::Unreachable(error.without_url()))?;
            match response.status() {
                StatusCode::OK => {
                    let line = self.line(&read(response).await?, asked)?;
                    self.size = asked.size;
                    return Ok(line);
                }
                StatusCode::CONFLICT => {
                    let told = read(response).await?;
                    let nonsense = |_| Failure::Nonsense(format!("409 with {:?}, which is no size", told.chars().take(40).collect::<String>()));
                    self.size = told.trim_end().parse().map_err(nonsense)?;
                    if self.size > asked.size {
                        return Err(Failure::Ahead { known: self.size, size: asked.size });
                    }
                }
                StatusCode::UNPROCESSABLE_ENTITY => return Err(Failure::Forked),
                status @ (StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) => return Err(Failure::Unknown(status, asked.origin())),
                status => return Err(Failure::Status(status)),
            }
        }
        Err(Failure::Nonsense(format!("{REQUESTS_MAX} requests that each named the size that it had told were answered with 409")))
    }

    /// Its line among those of `answer`. Lines of other keys are passed over, as the standard says.
    fn line(&self, answer: &str, asked: &Asked<'_>) -> Result<String, Failure> {
        let (text, _) = asked.note.rsplit_once("\n\n").unwrap_or_default();
        let note = Note::from_bytes(format!("{text}\n\n{answer}").as_bytes()).map_err(|_| Failure::Nonsense("it has no lines of signatures".into()))?;
        match self.cosigner.find(&note) {
            Ok(Some((signature, _))) => Ok(String::from_utf8_lossy(&signature.to_bytes()).into_owned()),
            Ok(None) => Err(Failure::Nonsense("it has no signature of this witness's key".into())),
            Err(error) => Err(Failure::Nonsense(error.to_string())),
        }
    }

    /// Tells of the answer, where it is of another kind than the one before.
    fn tell(&mut self, answer: Result<(), &Failure>) {
        let name = self.cosigner.name();
        metrics::gauge!("loyalty_witness_cosigned", "witness" => name.to_owned()).set(if answer.is_ok() { 1.0 } else { 0.0 });
        let kind = answer.map_err(Failure::kind);
        if self.told == Some(kind) {
            return;
        }
        match answer {
            Ok(()) => tracing::info!(witness = name, "the witness cosigns"),
            Err(failure) => tracing::warn!(witness = name, error = failure as &dyn std::error::Error, "the checkpoint has no cosignature of this witness"),
        }
        self.told = Some(kind);
    }
}

async fn read(mut response: reqwest::Response) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Failure::Unreachable(error.without_url()))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(Failure::Nonsense(format!("it has more than {ANSWER_BYTES_MAX} bytes")));
        }
    }
    String::from_utf8(bytes).map_err(|_| Failure::Nonsense("it is not UTF-8".into()))
}

/// The witnesses that are asked to cosign each checkpoint.
pub struct Witnesses {
    client: reqwest::Client,
    all: Vec<Witness>,
}

impl Witnesses {
    /// Reads each of `texts` as `VKEY@URL`: the witness's public key (`NAME+ID+KEY`, C2SP signed-note, key type 4) and the URL before `/add-checkpoint`. A
    /// provider of TLS must be installed.
    ///
    /// # Errors
    /// [`AuditError::Witness`].
    pub fn parse(texts: &[String]) -> Result<Self, AuditError> {
        let all: Vec<Witness> = texts.iter().map(|text| Witness::parse(text)).collect::<Result<_, _>>()?;
        require_distinct(all.iter().map(|witness| &witness.cosigner))?;
        if all.len() > WITNESSES_MAX {
            return Err(AuditError::Witness(format!("{} witnesses are too many: a checkpoint has room for {WITNESSES_MAX}", all.len())));
        }
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        Ok(Self { client: client.map_err(|error| AuditError::Witness(format!("no witness can be asked: {error}")))?, all })
    }

    /// Asks all that did not cosign the checkpoint of `size` heads in `folder`, which is `note`, and adds the line of each as it comes; tells how many
    /// cosigned it. One that does not is logged, once for each kind of failure.
    pub(crate) async fn cosign(&mut self, folder: &Path, size: u64, note: &str) -> Result<usize, AuditError> {
        let path = folder.join("checkpoint");
        let kept = Note::from_bytes(note.as_bytes()).map_err(|error| AuditError::Wrong(format!("{} can't be read: {error}", path.display())))?;
        let Self { client, all } = self;
        let (mut count, mut missing) = (0, Vec::new());
        for witness in all {
            match witness.cosigner.find(&kept)? {
                Some(_) => {
                    (witness.size, count) = (size, count + 1);
                    witness.tell(Ok(()));
                }
                None => missing.push(witness),
            }
        }
        let (text, signatures) = note.rsplit_once("\n\n").unwrap_or_default();
        let own = format!("{text}\n\n{}\n", signatures.lines().next().unwrap_or_default());
        let asked = Asked { folder, size, note: &own };
        let mut answers: FuturesUnordered<_> = missing.into_iter().map(|witness| witness.answer(client, &asked)).collect();
        let mut note = note.to_owned();
        while let Some(answer) = answers.next().await {
            if let Some(line) = answer {
                note.push_str(&line);
                write(&path, note.as_bytes())?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all.len()
    }
}
