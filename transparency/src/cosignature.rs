//! Cosignatures (C2SP tlog-cosignature, `cosignature/v1`): a witness says that a checkpoint extends every earlier one that it saw.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ledger_core::time::Moment;
use signed_note::{Note, NoteError, Signature, StandardVerifier, Verifier, VerifierList, key_id};

use crate::AuditError;

/// Signature types of C2SP signed-note.
const ED25519: u8 = 1;
const COSIGNATURE_ED25519: u8 = 4;
const COSIGNATURE_ML_DSA: u8 = 6;
const MICROS: i64 = 1_000_000;

/// The public key of a witness.
#[derive(Clone)]
pub(crate) struct Cosigner {
    id: u32,
    public: [u8; 32],
    /// The same key as one of plain Ed25519, which signs the cosigned message.
    key: StandardVerifier,
}

impl Cosigner {
    /// Reads `NAME+ID+KEY` with a key of type 4.
    pub(crate) fn parse(text: &str) -> Result<Self, AuditError> {
        let text = text.trim();
        let wrong = |what: &str| AuditError::Witness(format!("the witness {text:?} {what}"));
        let parts: Vec<&str> = text.splitn(3, '+').collect();
        let [name, id, key] = parts[..] else { return Err(wrong("is not NAME+ID+KEY")) };
        let key = BASE64_STANDARD.decode(key).map_err(|_| wrong("has a key that is not base64"))?;
        let public: [u8; 32] = match key.split_first() {
            Some((&COSIGNATURE_ED25519, public)) => public.try_into().map_err(|_| wrong("has a key that is not 32 bytes long"))?,
            Some((&ED25519, _)) => return Err(wrong("has a key of type 1, which signs logs; a witness has one of type 4")),
            Some((&COSIGNATURE_ML_DSA, _)) => return Err(wrong("has an ML-DSA-44 key (type 6); only Ed25519 cosignatures (type 4) are supported")),
            _ => return Err(wrong("has a key of unknown type; a witness has one of type 4")),
        };
        if u32::from_str_radix(id, 16).ok().filter(|_| id.len() == 8) != Some(key_id(name, &key)) {
            return Err(wrong("has an id that is not the one of its name and key"));
        }
        let plain = [&[ED25519], &public[..]].concat();
        let plain = format!("{name}+{:08x}+{}", key_id(name, &plain), BASE64_STANDARD.encode(&plain));
        let verifier = StandardVerifier::new(&plain).map_err(|error| wrong(&format!("has a name or key that is none: {error}")))?;
        Ok(Self { id: key_id(name, &key), public, key: verifier })
    }

    /// Its cosignature on `note` and the witness's time, to the second; none where `note` has no line of this key.
    pub(crate) fn find(&self, note: &Note) -> Result<Option<(Signature, Moment)>, AuditError> {
        let wrong = |what: String| AuditError::Wrong(format!("the cosignature of {} {what}", self.name()));
        let signature = match note.verify(&VerifierList::new(vec![Box::new(self.clone())])) {
            Ok((verified, _)) => verified.into_iter().next(),
            Err(NoteError::UnverifiedNote) => None,
            Err(error) => return Err(wrong(format!("does not verify: {error}"))),
        };
        let Some(signature) = signature else { return Ok(None) };
        let seconds = timestamp(signature.signature()).map(|(seconds, _)| seconds);
        let micros = seconds.and_then(|seconds| i64::try_from(seconds).ok()?.checked_mul(MICROS));
        let at = micros.and_then(Moment::from_micros).ok_or_else(|| wrong("has a time beyond the calendar".into()))?;
        Ok(Some((signature, at)))
    }
}

/// The seconds since 1970 and the signature, of a `timestamped_signature`.
fn timestamp(signature: &[u8]) -> Option<(u64, &[u8])> {
    let (seconds, signature) = signature.split_first_chunk()?;
    Some((u64::from_be_bytes(*seconds), signature))
}

impl Verifier for Cosigner {
    fn name(&self) -> &str {
        self.key.name()
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        let Some((seconds, signature)) = timestamp(signature) else { return false };
        let message = [format!("cosignature/v1\ntime {seconds}\n").as_bytes(), text].concat();
        i64::try_from(seconds).is_ok() && self.key.verify(&message, signature)
    }
}

/// Refuses two of one public key: the cosigned message does not hold the name, so each cosignature of one is one of the other, too.
pub(crate) fn require_distinct<'a>(cosigners: impl Iterator<Item = &'a Cosigner>) -> Result<(), AuditError> {
    let mut seen: Vec<&Cosigner> = Vec::new();
    for cosigner in cosigners {
        if let Some(same) = seen.iter().find(|other| other.public == cosigner.public) {
            return Err(AuditError::Witness(format!("the witnesses {} and {} have the same public key, so they are one", same.name(), cosigner.name())));
        }
        seen.push(cosigner);
    }
    Ok(())
}

/// The witnesses that an auditor trusts, and how many of them must have cosigned.
pub struct Quorum {
    witnesses: Vec<Cosigner>,
    least: usize,
}

impl Quorum {
    /// At least `least` of the witnesses with these `keys` (`NAME+ID+KEY`, C2SP signed-note, key type 4); all of them where `least` is none.
    ///
    /// # Errors
    /// [`AuditError::Witness`].
    pub fn of(keys: &[String], least: Option<usize>) -> Result<Self, AuditError> {
        let witnesses: Vec<Cosigner> = keys.iter().map(|key| Cosigner::parse(key)).collect::<Result<_, _>>()?;
        require_distinct(witnesses.iter())?;
        let (least, count) = (least.unwrap_or(witnesses.len()), witnesses.len());
        if !(1..=count).contains(&least) {
            return Err(AuditError::Witness(format!("a quorum of {least} among {count} witnesses can't be met or asks for nothing")));
        }
        Ok(Self { witnesses, least })
    }

    /// Checks that the signed note `checkpoint` has the cosignatures; tells the name of each witness that cosigned it and when. Whether the log's own key signed
    /// the note is for the caller to check.
    ///
    /// # Errors
    /// [`AuditError::Wrong`] names each witness whose cosignature is missing. One that does not verify is an error even where the others suffice.
    pub fn check(&self, checkpoint: &[u8]) -> Result<Vec<(String, Moment)>, AuditError> {
        let note = Note::from_bytes(checkpoint).map_err(|error| AuditError::Wrong(format!("the checkpoint can't be read: {error}")))?;
        let (mut cosigned, mut missing) = (Vec::new(), Vec::new());
        for witness in &self.witnesses {
            match witness.find(&note)? {
                Some((_, at)) => cosigned.push((witness.name().to_owned(), at)),
                None => missing.push(witness.name()),
            }
        }
        if cosigned.len() < self.least {
            let (has, least, missing) = (cosigned.len(), self.least, missing.join(", "));
            return Err(AuditError::Wrong(format!("the checkpoint has {has} of the {least} cosignatures that are asked for: {missing} did not cosign it")));
        }
        Ok(cosigned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of C2SP tlog-cosignature, which has no public keys.
    const EXAMPLE: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        — witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
    /// The example's text cosigned by `NewCosignatureSigner` of filippo.io/torchwood v0.6.1, whose secret key is the bytes 0 to 31.
    const KEY: &str = "witness.example.com/w1+a0059f11+BAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
    const LINE: &str = "— witness.example.com/w1 oAWfEQAAAABrDqbkdEK5KEju4PH6yrFOYKW64cZ9zhOZAGqsG+gifFmLf3T8RKPYGpyTHWQgqumSKqzOVM8LSUONdSOJRkiasQpXDA==\n";

    /// A key of type `kind` with the bytes `public`.
    fn key(name: &str, kind: u8, public: &[u8]) -> String {
        let key = [&[kind], public].concat();
        format!("{name}+{:08x}+{}", key_id(name, &key), BASE64_STANDARD.encode(&key))
    }

    fn public() -> Vec<u8> {
        BASE64_STANDARD.decode(&KEY[KEY.len() - 44..]).unwrap()[1..].to_vec()
    }

    #[test]
    fn a_cosignature_of_another_implementation_verifies_and_nothing_that_differs_does() {
        let quorum = Quorum::of(&[KEY.to_owned()], None).unwrap();
        let cosigned = format!("{EXAMPLE}{LINE}");
        let at = Moment::parse("2026-12-01T10:52:20Z").unwrap();
        assert_eq!(quorum.check(cosigned.as_bytes()).unwrap(), [("witness.example.com/w1".to_owned(), at)]);
        for (from, to) in [("20852163", "20852164"), ("behind-the-sofa\n", "before-the-sofa\n"), ("jxq2I=\n\n", "jxq2I=\nmore\n\n"), ("dEK5KEju4", "dEK5KEju5")]
        {
            let other = cosigned.replacen(from, to, 1);
            assert_ne!(other, cosigned, "{from}");
            let why = quorum.check(other.as_bytes()).unwrap_err().to_string();
            assert!(why.contains("the cosignature of witness.example.com/w1 does not verify"), "{from}: {why}");
        }
        // The time is signed, too.
        let late = LINE.replacen("AAAABrDqbk", "AAAABrDqbl", 1);
        assert!(late != LINE && quorum.check(format!("{EXAMPLE}{late}").as_bytes()).is_err());
    }

    #[test]
    fn the_standards_example_is_framed_as_it_says() {
        let line = EXAMPLE.lines().last().unwrap();
        let signature = Signature::from_bytes(line.as_bytes()).unwrap();
        let (seconds, rest) = timestamp(signature.signature()).unwrap();
        assert_eq!((signature.id(), seconds, rest.len()), (0x8d66_cf3f, 1_679_315_147, 64));
        // Of a key with the same name and another id nothing is known: the line is passed over.
        let why = Quorum::of(&[KEY.to_owned()], None).unwrap().check(EXAMPLE.as_bytes()).unwrap_err().to_string();
        assert_eq!(why, "the checkpoint has 0 of the 1 cosignatures that are asked for: witness.example.com/w1 did not cosign it");
    }

    #[test]
    fn a_quorum_counts_each_witness_once_and_names_who_is_missing() {
        let other = |name: &str, secret: u8| {
            let vkey = signed_note::generate_key(&mut Fixed(secret), name).1;
            key(name, 4, &BASE64_STANDARD.decode(vkey.splitn(3, '+').last().unwrap()).unwrap()[1..])
        };
        let (second, third) = (other("w2.example", 2), other("w3.example", 3));
        let keys = [KEY.to_owned(), second, third];
        let note = format!("{EXAMPLE}{LINE}");
        assert_eq!(Quorum::of(&keys, Some(1)).unwrap().check(note.as_bytes()).unwrap().len(), 1);
        for (least, asked) in [(Some(2), 2), (None, 3)] {
            let why = Quorum::of(&keys, least).unwrap().check(note.as_bytes()).unwrap_err().to_string();
            let says = format!("the checkpoint has 1 of the {asked} cosignatures that are asked for: w2.example, w3.example did not cosign it");
            assert_eq!(why, says);
        }
        // The line of one that suffices does not make up for one that was altered.
        let forged = LINE.replacen("witness.example.com/w1 oAWfEQ", "w9.example oAWfEQ", 1);
        assert!(Quorum::of(&keys, Some(1)).unwrap().check(format!("{note}{forged}").as_bytes()).is_ok(), "an unknown one is passed over");
        let alias = key("w9.example", 4, &public());
        let why = Quorum::of(&[KEY.to_owned(), alias], Some(2)).err().unwrap().to_string();
        assert!(why.contains("the witnesses witness.example.com/w1 and w9.example have the same public key"), "{why}");
        for least in [0, 4] {
            assert!(Quorum::of(&keys, Some(least)).is_err(), "{least}");
        }
        assert!(Quorum::of(&[], None).is_err());
    }

    #[test]
    fn a_key_that_is_none_of_a_witness_is_told() {
        for (text, why) in [
            ("w1.example".to_owned(), "is not NAME+ID+KEY"),
            ("w1.example+00000000+???".to_owned(), "is not base64"),
            (KEY.replacen("a0059f11", "a0059f12", 1), "has an id that is not the one of its name and key"),
            (KEY.replacen("/w1", "/w2", 1), "has an id that is not the one of its name and key"),
            (key("w1.example", 1, &public()), "a key of type 1, which signs logs"),
            (key("w1.example", 6, &[0; 1312]), "ML-DSA-44"),
            (key("w1.example", 2, &public()), "of unknown type"),
            (key("w1.example", 4, &public()[1..]), "is not 32 bytes long"),
            (key("w1 example", 4, &public()), "has a name or key that is none"),
        ] {
            let error = Cosigner::parse(&text).err().unwrap().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    /// The same bytes again and again.
    struct Fixed(u8);

    impl rand_core::RngCore for Fixed {
        fn next_u32(&mut self) -> u32 {
            u32::from(self.0)
        }

        fn next_u64(&mut self) -> u64 {
            u64::from(self.0)
        }

        fn fill_bytes(&mut self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
            bytes.fill(self.0);
            Ok(())
        }
    }

    impl rand_core::CryptoRng for Fixed {}
}
