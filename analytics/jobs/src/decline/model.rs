//! The models of decline, and which of them are in force: one is used only where it told better than plain recency, on a holdout, to whom it happens.

use estimators::lifetime::Buying;
use estimators::logistic::{Logistic, auc, fit};
use estimators::{FitError, Histories, History, bgnbd, pareto_nbd};
use serde::{Deserialize, Serialize};

use super::WINDOW_DAYS;
use super::features::{FALLEN, Features, features, followed};
use super::members::Member;

/// Which model is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// For each target the logistic model if it beats plain recency on the holdout, else plain recency.
    Best,
    /// The logistic model over all features.
    Logistic,
    /// The days since the last purchase alone.
    Recency,
    /// How overdue members are in their own times between purchases; nothing is learned.
    Overdue,
}

/// What a probability is made by, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InForce {
    /// `falls` or `leaves`.
    pub target: String,
    /// `logistic`, `recency` or `overdue`.
    pub model: String,
    /// Area under the ROC curve of the logistic model on the holdout; none where it could not be checked.
    pub auc: Option<f64>,
    /// That of the days since the last purchase.
    pub recency_auc: Option<f64>,
    /// That of how overdue members are; none of an assessment by a version that did not measure it.
    #[serde(default)]
    pub overdue_auc: Option<f64>,
    /// Members of the holdout.
    pub measured_on: usize,
    /// Why.
    pub why: String,
}

impl InForce {
    /// How well a model ranked the holdout.
    fn auc_of(&self, model: &str) -> Option<f64> {
        match model {
            "logistic" => self.auc,
            "recency" => self.recency_auc,
            _ => self.overdue_auc,
        }
    }
}

/// What is foretold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// Spends less than half of what it did.
    Falls,
    /// Buys nothing.
    Leaves,
}

impl Target {
    const ALL: [Self; 2] = [Self::Falls, Self::Leaves];

    const fn name(self) -> &'static str {
        match self {
            Self::Falls => "falls",
            Self::Leaves => "leaves",
        }
    }
}

/// A member's features on a day, and what followed.
struct Example {
    features: Features,
    outcome: (bool, bool),
}

impl Example {
    fn happened(&self, target: Target) -> bool {
        match target {
            Target::Falls => self.outcome.0,
            Target::Leaves => self.outcome.1,
        }
    }
}

/// Of those of `members` who had bought within the window before `day`.
fn examples(members: &[&Member], day: i32) -> Vec<Example> {
    let one = |member: &&Member| {
        let features = features(&member.at(day), day).filter(|features| !features.is_silent())?;
        let outcome = followed(member, &features, day);
        Some(Example { features, outcome })
    };
    members.iter().filter_map(one).collect()
}

/// The days that are looked at to learn what follows a window that ends with `day`: only what was known by then.
fn learned_by(day: i32) -> [i32; 3] {
    [day - WINDOW_DAYS, day - WINDOW_DAYS * 3 / 2, day - WINDOW_DAYS * 2]
}

fn buying(members: &[&Member], day: i32) -> Option<Buying> {
    let histories: Histories = members.iter().filter_map(|member| features(&member.at(day), day)).map(|features| features.history).collect();
    let bg = bgnbd::fit(&histories).ok().map(|fit| Buying::BgNbd(fit.values.into()));
    bg.or_else(|| pareto_nbd::fit(&histories).ok().map(|fit| Buying::ParetoNbd(fit.values.into())))
}

/// What can be learned by a day.
struct Learned {
    buying: Option<Buying>,
    examples: Vec<Example>,
}

impl Learned {
    fn by(members: &[&Member], day: i32) -> Self {
        let days = learned_by(day);
        Self { buying: buying(members, days[0]), examples: days.iter().flat_map(|day| examples(members, *day)).collect() }
    }

    fn fit(&self, target: Target, row: impl Fn(&Features) -> Vec<f64>) -> Result<Logistic, FitError> {
        let rows: Vec<Vec<f64>> = self.examples.iter().map(|example| row(&example.features)).collect();
        let outcomes: Vec<bool> = self.examples.iter().map(|example| example.happened(target)).collect();
        fit(&rows, &outcomes)
    }

    fn logistic(&self, target: Target) -> Result<Logistic, FitError> {
        self.fit(target, |features| features.row(self.buying.as_ref()))
    }
}

/// What makes a probability.
#[derive(Debug, Clone)]
enum Scorer {
    Logistic(Logistic),
    Recency(Logistic),
    Overdue,
}

impl Scorer {
    fn probability(&self, features: &Features, buying: Option<&Buying>) -> f64 {
        match self {
            Self::Logistic(model) => model.probability(&features.row(buying)),
            Self::Recency(model) => model.probability(&features.recency_row()),
            Self::Overdue => overdue(features),
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Logistic(_) => "logistic",
            Self::Recency(_) => "recency",
            Self::Overdue => "overdue",
        }
    }
}

fn overdue(features: &Features) -> f64 {
    1.0 - 1.0 / (1.0 + (features.overdue() / 2.0).powi(2))
}

/// What can be told of members on a day.
#[derive(Debug, Clone)]
pub(super) struct Models {
    buying: Option<Buying>,
    falls: Scorer,
    leaves: Scorer,
    /// What each is, and why.
    pub(super) in_force: Vec<InForce>,
    /// Why a model that was asked for may not be put in force: it is no better than plain recency, or can't be learned or checked.
    pub(super) refused: Option<String>,
}

/// How a target's models did on the holdout.
struct Check {
    auc: Option<f64>,
    recency_auc: Option<f64>,
    overdue_auc: Option<f64>,
    measured_on: usize,
    /// Why the logistic model may not be used; none where it may.
    failure: Option<String>,
}

/// Why a model may not be used by how it and plain recency ranked the holdout; none where it may.
fn compare(model: Option<f64>, recency: Option<f64>) -> Option<String> {
    match model.zip(recency) {
        None => Some("it can't be checked: in the holdout it happened to all or to nobody".into()),
        Some((model, recency)) if model <= recency => {
            Some(format!("it is no better than days since the last purchase on the holdout: ROC-AUC {model:.4} against {recency:.4}"))
        }
        Some(_) => None,
    }
}

/// Learns by the window before `day` and looks whether it beats recency in what followed until `day`.
fn check(then: &Learned, holdout: &[Example], target: Target) -> Check {
    // Who has fallen already can't be warned of.
    let is_measured = |example: &&Example| target == Target::Leaves || !example.features.is_below(FALLEN);
    let measured: Vec<&Example> = holdout.iter().filter(is_measured).collect();
    let outcomes: Vec<bool> = measured.iter().map(|example| example.happened(target)).collect();
    let recency: Vec<f64> = measured.iter().map(|example| f64::from(example.features.recency_days)).collect();
    let overdue: Vec<f64> = measured.iter().map(|example| example.features.overdue()).collect();
    let (recency_auc, overdue_auc) = (auc(&recency, &outcomes), auc(&overdue, &outcomes));
    let mut done = Check { auc: None, recency_auc, overdue_auc, measured_on: measured.len(), failure: None };
    match then.logistic(target) {
        Err(why) => done.failure = Some(format!("it can't be checked on a holdout: {why}")),
        Ok(model) => {
            let scores: Vec<f64> = measured.iter().map(|example| model.probability(&example.features.row(then.buying.as_ref()))).collect();
            done.auc = auc(&scores, &outcomes);
            done.failure = compare(done.auc, recency_auc);
        }
    }
    done
}

impl Models {
    /// The logistic models by `day`, unchecked: for a back-test, which checks them itself.
    pub(super) fn unchecked(members: &[&Member], day: i32) -> Result<Self, FitError> {
        let learned = Learned::by(members, day);
        let (falls, leaves) = (learned.logistic(Target::Falls)?, learned.logistic(Target::Leaves)?);
        Ok(Self { falls: Scorer::Logistic(falls), leaves: Scorer::Logistic(leaves), buying: learned.buying, in_force: Vec::new(), refused: None })
    }

    /// What may be used on `day`: checked on the last window before it, then learned by all that is known.
    pub(super) fn choose(members: &[&Member], day: i32, choice: Choice) -> Self {
        let (now, then) = (Learned::by(members, day), Learned::by(members, day - WINDOW_DAYS));
        let holdout = examples(members, day - WINDOW_DAYS);
        let (mut in_force, mut refused) = (Vec::new(), None);
        let [falls, leaves] = Target::ALL.map(|target| {
            let check = check(&then, &holdout, target);
            let (scorer, why) = choose(&now, &check, target, choice);
            if choice == Choice::Logistic && !matches!(scorer, Scorer::Logistic(_)) {
                refused = Some(format!("the model asked for is not used: {}: {why}", target.name()));
            }
            // How overdue members are is what there is where nothing can be learned; where something can, it must rank better, as any model.
            if choice == Choice::Overdue
                && now.fit(target, Features::recency_row).is_ok()
                && let Some(why) = compare(check.overdue_auc, check.recency_auc)
            {
                refused = Some(format!("the model asked for is not good enough: {}: {why}", target.name()));
            }
            let Check { auc, recency_auc, overdue_auc, measured_on, .. } = check;
            in_force.push(InForce { target: target.name().into(), model: scorer.name().into(), auc, recency_auc, overdue_auc, measured_on, why });
            scorer
        });
        Self { buying: now.buying, falls, leaves, in_force, refused }
    }

    /// Where these models rank the holdout worse than those of the assessment in force, `current`, do: which, and by how much.
    pub(super) fn ranks_worse(&self, current: &[InForce]) -> Option<String> {
        self.in_force.iter().find_map(|asked| {
            let other = current.iter().find(|other| other.target == asked.target && other.model != asked.model)?;
            let (mine, theirs) = asked.auc_of(&asked.model).zip(asked.auc_of(&other.model))?;
            let InForce { target, model, .. } = asked;
            (mine < theirs).then(|| {
                format!(
                    "the model asked for ranks worse than {}, by which {target} is in force: ROC-AUC on the holdout {mine:.4} by {model} against {theirs:.4}",
                    other.model
                )
            })
        })
    }

    /// The probabilities that spend falls below half of the base, and that nothing is bought. Who buys nothing spends less than half.
    pub(super) fn probabilities(&self, features: &Features) -> (f64, f64) {
        if features.is_silent() {
            return (1.0, overdue(features).max(0.5));
        }
        let leaves = self.leaves.probability(features, self.buying.as_ref());
        (self.falls.probability(features, self.buying.as_ref()).max(leaves), leaves)
    }

    /// The probability that a member with this history still buys; none where no model of purchases could be fitted. The model of purchases takes
    /// a frequent buyer for gone after a short silence; but who buys within the window is a customer, so it is never less than `leaves` says of that.
    pub(super) fn alive(&self, history: History, leaves: f64) -> Option<f64> {
        self.buying.as_ref().map(|buying| buying.alive(history).max(1.0 - leaves))
    }
}

/// What a target's probability is made by, and why.
fn choose(now: &Learned, check: &Check, target: Target, choice: Choice) -> (Scorer, String) {
    let recency = |why: String| match now.fit(target, Features::recency_row) {
        Ok(model) => (Scorer::Recency(model), why),
        Err(error) => (Scorer::Overdue, format!("{why}; {error}")),
    };
    match (choice, &check.failure) {
        (Choice::Overdue, _) => (Scorer::Overdue, "it was asked for".into()),
        (Choice::Recency, _) => recency("it was asked for".into()),
        (Choice::Best | Choice::Logistic, Some(why)) => recency(format!("the logistic model is not used: {why}")),
        (Choice::Best | Choice::Logistic, None) => match now.logistic(target) {
            Ok(model) => {
                let [model_auc, recency_auc] = [check.auc, check.recency_auc].map(|auc| auc.unwrap_or(f64::NAN));
                (Scorer::Logistic(model), format!("ROC-AUC on the holdout {model_auc:.4}, days since the last purchase {recency_auc:.4}"))
            }
            Err(why) => recency(format!("the logistic model is not used: {why}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::members::Bought;
    use super::*;

    fn member(number: usize, days: impl Iterator<Item = i32>) -> Member {
        let purchases = days.map(|day| Bought { day, spend: 20.0, categories: 1, back: Box::default() }).collect();
        Member { account: format!("m{number}"), purchases, refunds: Vec::new() }
    }

    /// Pseudo-random numbers below `below`.
    fn draw(seed: &mut u64, below: i32) -> i32 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i32::try_from(*seed >> 33).unwrap_or(0).rem_euclid(below)
    }

    /// Weekly and monthly buyers, some of whom leave: the same silence means more of a weekly buyer.
    fn two_kinds() -> Vec<Member> {
        let mut seed = 3;
        let one = |number: usize| {
            let gap = if number.is_multiple_of(2) { 7 } else { 45 };
            let end = if draw(&mut seed, 3) == 0 { draw(&mut seed, 700) } else { 10_000 };
            let mut day = draw(&mut seed, gap);
            let mut days = Vec::new();
            while day <= 600.min(end) {
                days.push(day);
                day += gap - 3 + draw(&mut seed, 7);
            }
            member(number, days.into_iter())
        };
        (0..900).map(one).collect()
    }

    #[test]
    fn a_model_that_beats_recency_is_in_force_and_says_nothing_that_contradicts_itself() {
        let members = two_kinds();
        let refs: Vec<&Member> = members.iter().collect();
        let models = Models::choose(&refs, 600, Choice::Best);
        let leaves = models.in_force.iter().find(|one| one.target == "leaves").unwrap();
        assert_eq!(leaves.model, "logistic", "{leaves:?}");
        assert!(leaves.auc > leaves.recency_auc, "{leaves:?}");
        assert_eq!(models.refused, None);
        // Plain recency is as good as itself, but not as the model in force, which it does not replace.
        let recency = Models::choose(&refs, 600, Choice::Recency);
        assert_eq!(recency.refused, None);
        let why = recency.ranks_worse(&models.in_force).unwrap();
        assert!(why.contains("ranks worse than logistic") && why.contains("by recency against"), "{why}");
        assert_eq!((models.ranks_worse(&recency.in_force), models.ranks_worse(&models.in_force)), (None, None));
        for member in &members {
            let Some(features) = features(&member.at(600), 600) else { continue };
            let (falls, leaves) = models.probabilities(&features);
            let alive = models.alive(features.history, leaves).unwrap();
            assert!(falls >= leaves && alive >= 1.0 - leaves, "{falls} {leaves} {alive}");
        }
    }

    #[test]
    fn a_model_that_loses_to_recency_is_not_in_force() {
        // Everybody buys every ten days and leaves at a moment of their own: recency says all there is to know, the rest is noise.
        let mut seed = 11;
        let one = |number: usize| {
            let end = 100 + draw(&mut seed, 900);
            member(number, (draw(&mut seed, 10)..600).step_by(10).filter(move |day| *day < end))
        };
        let members: Vec<Member> = (0..600).map(one).collect();
        let refs: Vec<&Member> = members.iter().collect();
        let models = Models::choose(&refs, 600, Choice::Best);
        for one in &models.in_force {
            let is_better = one.auc.zip(one.recency_auc).is_some_and(|(model, recency)| model > recency);
            assert_eq!(one.model == "logistic", is_better, "{one:?}");
        }
        let asked = Models::choose(&refs, 600, Choice::Logistic);
        assert_eq!(asked.refused.is_some(), asked.in_force.iter().any(|one| one.model != "logistic"), "{:?}", asked.in_force);
        assert!(models.in_force.iter().any(|one| one.model == "recency" && one.why.contains("no better than days since")), "{:?}", models.in_force);
        // Where all have the same times between purchases, how overdue they are ranks as recency does: no better, so it is not put in force either.
        let overdue = Models::choose(&refs, 600, Choice::Overdue);
        assert!(overdue.refused.as_ref().is_some_and(|why| why.contains("not good enough")), "{:?}", overdue.in_force);
    }

    #[test]
    fn of_too_few_members_nothing_is_learned() {
        let members = [member(0, [590, 595].into_iter())];
        let models = Models::choose(&[&members[0]], 600, Choice::Best);
        assert!(models.in_force.iter().all(|one| one.model == "overdue" && one.why.contains("can't be checked")), "{:?}", models.in_force);
        assert_eq!(Models::choose(&[&members[0]], 600, Choice::Overdue).refused, None, "there is no other");
    }
}
