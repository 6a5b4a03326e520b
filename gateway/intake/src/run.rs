//! The loop: a batch of messages, their accounts, their commands, what is kept, and then how far it has read.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use api::AliasKey;
use command_service::Service;
use compact_str::CompactString;
use futures_util::future::join_all;
use ledger_core::account::Command;
use ledger_core::account::command::Action;
use ledger_core::id::{AccountKey, Alias, Id};
use ledger_core::planted::{Bug, is_planted};
use ledger_schemas::{Published, Whose};
use telemetry::{Part, Trace};
use tokio::sync::watch;

use crate::error::{EngineError, IntakeError};
use crate::message::{self, ACTOR};
use crate::registry::Registry;
use crate::source::{IntakeOptions, Message, Place, Source, Topic};
use crate::store::{Claimable, Early, Known, Mark, Refused, Store, Tables, Unmatched};

/// How often what waits is looked through.
const CLAIM_EVERY: Duration = Duration::from_millis(500);
/// How long to wait before something that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Books what is published.
pub struct Intake {
    service: Service,
    aliases: AliasKey,
    registry: Option<Registry>,
}

/// A message that was read, with whose it is.
struct Read<'a> {
    message: &'a Message,
    key: AccountKey,
    command: Command,
}

impl Intake {
    /// Commands go to `service`; accounts are found by names hashed with `aliases`.
    #[must_use]
    pub fn new(service: Service, aliases: AliasKey, registry: Option<Registry>) -> Self {
        Self { service, aliases, registry }
    }

    /// Reads the topic until `stop` says so, and keeps in the database at `url`; what fails is tried again from what was committed.
    pub async fn run(self, options: IntakeOptions, url: String, mut stop: watch::Receiver<bool>) {
        let again = async || -> Result<(), IntakeError> {
            let store = Tables::open(&url).await?;
            let (options, positions) = (options.clone(), store.positions(&options.topic).await?);
            let joined = tokio::task::spawn_blocking(move || Topic::join(&options, &positions)).await;
            let mut topic = joined.map_err(|error| IntakeError::Engine(error.into()))??;
            self.read_on(&mut topic, &store).await
        };
        while !*stop.borrow() {
            let outcome = tokio::select! {
                outcome = again() => outcome,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            if let Err(error) = outcome {
                tracing::error!(error = &error as &dyn std::error::Error, "intake failed; it goes on from what it has committed");
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// Reads on and on; it may be dropped at any moment.
    ///
    /// # Errors
    /// [`IntakeError`]
    pub async fn read_on(&self, source: &mut dyn Source, store: &dyn Store) -> Result<(), IntakeError> {
        let mut claim = tokio::time::interval(CLAIM_EVERY);
        loop {
            tokio::select! {
                // First, as it is due now and then only; and a run of the simulator takes the same turns again.
                biased;
                _ = claim.tick() => self.claim(store).await?,
                batch = source.next() => {
                    let batch = batch.map_err(IntakeError::Engine)?;
                    let places: Vec<Place> = batch.iter().map(|message| message.place.clone()).collect();
                    if is_planted(Bug::CommitBeforeBooking) {
                        source.commit(&places).await.map_err(IntakeError::Engine)?;
                    }
                    self.take(&batch, &places, store).await?;
                    source.commit(&places).await.map_err(IntakeError::Engine)?;
                    store.done(&places).await.map_err(IntakeError::Engine)?;
                }
            }
        }
    }

    async fn take(&self, batch: &[Message], places: &[Place], store: &dyn Store) -> Result<(), IntakeError> {
        let mut known = store.known(places).await.map_err(IntakeError::Engine)?;
        if is_planted(Bug::MatchedAnew) {
            known.clear();
        }
        let mut reads = Vec::new();
        for message in batch {
            // What was kept before is claimed or stays: what came of it first stands.
            if known.get(&message.place) == Some(&Known::Kept) {
                continue;
            }
            match message::read(message, self.registry.as_ref()).await? {
                Ok(published) => reads.push((message, published)),
                Err(wrong) => {
                    store.keep_rejected(message, wrong.code, &wrong.reason).await.map_err(IntakeError::Engine)?;
                    count("rejected");
                }
            }
        }
        self.book(reads, &known, store).await.map_err(IntakeError::Engine)
    }

    /// Which account messages are for that name it otherwise than by its id; those that nobody known, or more than one, has the name of are kept.
    async fn find(&self, reads: &[(&Message, Published)], known: &BTreeMap<Place, Known>, store: &dyn Store) -> Result<BTreeMap<Place, Id>, EngineError> {
        let (mut named, mut given) = (BTreeMap::new(), BTreeMap::new());
        for (message, published) in reads {
            let Whose::Named(kind, name) = &published.whose else { continue };
            if known.contains_key(&message.place) {
                continue;
            }
            let alias = self.aliases.alias(&published.program, kind, name);
            let mark = mark(&published.program, published.action.kind(), &published.id, alias);
            let of = Named { place: &message.place, mark, alias, published };
            let mut found = store.accounts(&published.program, alias).await?;
            if found.len() == 1 {
                named.extend(found.pop().map(|account| (message.place.clone(), (of, account))));
            } else {
                let reason = if found.is_empty() { format!("no account has this {kind}") } else { format!("{} accounts have this {kind}", found.len()) };
                given.extend(keep(&of, &reason, store).await?.map(|account| (message.place.clone(), account)));
            }
        }
        let marks: BTreeMap<Mark, Id> = named.values().map(|(of, account)| (of.mark, account.clone())).collect();
        let marked = if marks.is_empty() { marks } else { store.give(&marks).await? };
        for (place, (of, account)) in named {
            let account = match marked.get(&of.mark) {
                _ if is_planted(Bug::MatchedAnew) => Some(account),
                Some(account) => Some(account.clone()),
                // It was published before, and waits.
                None => keep(&of, "it was published before, and waits", store).await?,
            };
            given.extend(account.map(|account| (place, account)));
        }
        Ok(given)
    }

    /// Books what could be read for the accounts that are meant.
    async fn book(&self, reads: Vec<(&Message, Published)>, known: &BTreeMap<Place, Known>, store: &dyn Store) -> Result<(), EngineError> {
        let given = self.find(&reads, known, store).await?;
        let mut accounts: BTreeMap<AccountKey, Vec<Read<'_>>> = BTreeMap::new();
        for (message, published) in reads {
            let account = match (&published.whose, given.get(&message.place), known.get(&message.place)) {
                (Whose::Account(account), ..) | (_, _, Some(Known::Matched(account))) | (_, Some(account), _) => account.clone(),
                _ => continue,
            };
            let key = AccountKey { program: published.program, account };
            let command = Command { id: published.id, actor: CompactString::const_new(ACTOR), action: published.action };
            accounts.entry(key.clone()).or_default().push(Read { message, key, command });
        }
        // One account's in their order, all accounts at once.
        join_all(accounts.into_values().map(|reads| self.submit_all(reads, store))).await.into_iter().collect()
    }

    async fn submit_all(&self, reads: Vec<Read<'_>>, store: &dyn Store) -> Result<(), EngineError> {
        for Read { message, key, command } in reads {
            match self.insist(key.clone(), command.clone()).await {
                Ok(()) => count("accepted"),
                Err(refused) if is_early(&command, &refused) => {
                    keep_early(&message.place, &key, &command, &refused, store).await?;
                    count("early");
                }
                Err(refused) => {
                    store.keep_rejected(message, &refused.code, &refused.words).await?;
                    count("refused");
                }
            }
        }
        Ok(())
    }

    /// Sends until it is booked or refused for good.
    async fn insist(&self, key: AccountKey, command: Command) -> Result<(), Refused> {
        let trace = telemetry::is_on().then(|| (Trace::of(&key, command.action.kind(), &command.id), SystemTime::now()));
        let outcome = self.submit(key, command).await;
        if let Some((trace, begin)) = trace {
            let part = if outcome.as_ref().is_ok_and(|is_new| *is_new) { Part::Request } else { Part::Again };
            trace.span(part, "intake".to_owned(), begin, outcome.as_ref().err().map(|refused| refused.words.clone()));
        }
        outcome.map(|_| ())
    }

    async fn submit(&self, key: AccountKey, command: Command) -> Result<bool, Refused> {
        loop {
            match self.service.submit(key.clone(), command.clone()).await {
                Ok(answer) => return Ok(!answer.replayed),
                Err(refusal) if refusal.is_passing() => tokio::time::sleep(RETRY_AFTER).await,
                Err(refusal) => return Err(Refused { code: refusal.code().to_owned(), words: refusal.to_string() }),
            }
        }
    }

    /// Books what waited and whose account is known by now.
    async fn claim(&self, store: &dyn Store) -> Result<(), IntakeError> {
        for Claimable { place, key, command, awaited } in store.claimable().await.map_err(IntakeError::Engine)? {
            let done = match self.insist(key.clone(), command.clone()).await {
                Ok(()) => store.claimed(&place, None).await,
                Err(refused) if !awaited && is_early(&command, &refused) => keep_early(&place, &key, &command, &refused, store).await,
                Err(refused) => store.claimed(&place, Some(&refused)).await,
            };
            done.map_err(IntakeError::Engine)?;
        }
        let open = store.open_count().await.map_err(IntakeError::Engine)?;
        metrics::gauge!("loyalty_intake_unmatched").set(f64::from(u32::try_from(open).unwrap_or(u32::MAX)));
        Ok(())
    }
}

/// A message that names its account by a card or a member.
#[derive(Clone, Copy)]
struct Named<'a> {
    place: &'a Place,
    mark: Mark,
    alias: Alias,
    published: &'a Published,
}

/// What a message is known by that asks for `id`, a `kind` of command, under the name `alias`.
#[must_use]
pub fn mark(program: &Id, kind: &str, id: &Id, alias: Alias) -> Mark {
    let mut hasher = blake3::Hasher::new();
    for text in [program.as_str(), kind, id.as_str()] {
        hasher.update(text.as_bytes()).update(&[0]);
    }
    let hash = hasher.update(&alias.0).finalize();
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// Keeps a message until its account is known, unless another process has just given it to one.
async fn keep(of: &Named<'_>, reason: &str, store: &dyn Store) -> Result<Option<Id>, EngineError> {
    let Named { place, mark, alias, published } = *of;
    let command = Command { id: published.id.clone(), actor: CompactString::const_new(ACTOR), action: published.action.clone() };
    let given = store.keep_unmatched(&Unmatched { place, mark, program: &published.program, alias, command: &command, reason }).await?;
    if given.is_none() {
        count("unmatched");
    }
    Ok(given)
}

/// Whether it is a return that came before its purchase: that one may be on its way, or wait itself.
fn is_early(command: &Command, refused: &Refused) -> bool {
    matches!(command.action, Action::Return(_)) && matches!(&*refused.code, "purchase_not_found" | "account_not_found")
}

async fn keep_early(place: &Place, key: &AccountKey, command: &Command, refused: &Refused, store: &dyn Store) -> Result<(), EngineError> {
    let Action::Return(body) = &command.action else { return Ok(()) };
    let words = format!("{}; the return is booked when purchase {} is", refused.words, body.purchase_id);
    let refused = Refused { code: refused.code.clone(), words };
    store.keep_early(&Early { place, key, command, purchase: &body.purchase_id, refused: &refused }).await
}

fn count(outcome: &'static str) {
    metrics::counter!("loyalty_intake_messages_total", "outcome" => outcome).increment(1);
}
