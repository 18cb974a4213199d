//! How old results may be that `--ttl` names by step.

use std::time::Duration;

use super::plan::{Plan, Planned};
use super::stage::is_step;
use super::{LowerError, StepAge};
use crate::ast::Instruction;

/// How many steps an error lists.
const MAX_LISTED: usize = 20;
/// How many characters of an instruction it shows.
const MAX_SHOWN: usize = 60;

/// What was asked for, and what of it was found.
pub(super) struct Ages {
    asked: Vec<Asked>,
    /// The steps, as an error lists them; empty where nothing was asked.
    steps: Vec<String>,
}

struct Asked {
    step: String,
    which: Which,
    age: Duration,
    found: bool,
}

/// What a STEP means. A name of a stage is never taken for a text.
enum Which {
    /// All steps of these stages (names may be there twice).
    Stages(Vec<usize>),
    /// The step with this number in these stages, as progress counts.
    Numbered(Vec<usize>, usize),
    /// The steps whose instruction has this in it, as progress shows it or as it is written; how
    /// many blanks are between words does not count.
    Text(String),
}

/// A step that is being lowered.
pub(super) struct Looked<'s> {
    /// Its stage.
    pub(super) stage: usize,
    /// Its number in the stage, as progress counts.
    pub(super) number: usize,
    /// It, as written.
    pub(super) instruction: &'s Instruction,
    /// It, as progress shows it.
    pub(super) shown: &'s str,
}

impl Ages {
    pub(super) fn new(plan: &Plan<'_>, asked: &[StepAge]) -> Self {
        let asked = asked.iter().map(|one| Asked {
            step: one.step.clone(),
            which: which(plan, &one.step),
            age: one.age,
            found: false,
        });
        Self { asked: asked.collect(), steps: Vec::new() }
    }

    /// What was asked for this step; the last one counts.
    pub(super) fn of(&mut self, plan: &Plan<'_>, step: &Looked<'_>) -> Option<Duration> {
        if self.asked.is_empty() {
            return None;
        }
        let stage = &plan.stages[step.stage].shown;
        let text: String = step.shown.chars().take(MAX_SHOWN).collect();
        self.steps.push(format!("{stage}:{} ({text})", step.number));
        let mut age = None;
        for asked in &mut self.asked {
            let meant = match &asked.which {
                Which::Stages(stages) => stages.contains(&step.stage),
                Which::Numbered(stages, number) => {
                    stages.contains(&step.stage) && *number == step.number
                }
                Which::Text(text) => {
                    single_spaced(step.shown).contains(text) || says(step.instruction, text)
                }
            };
            if meant {
                asked.found = true;
                age = Some(asked.age);
            }
        }
        age
    }

    /// Fails on a STEP that is nowhere in the file. What the target does not need may be named:
    /// then there is nothing to do.
    pub(super) fn check(self, plan: &Plan<'_>) -> Result<(), LowerError> {
        let idle = |at: &usize| !plan.stages[*at].needed;
        let elsewhere = |asked: &Asked| match &asked.which {
            Which::Stages(_) => true,
            Which::Numbered(stages, _) => stages.iter().any(idle),
            Which::Text(text) => {
                let stages = plan.stages.iter().filter(|stage| !stage.needed);
                stages.flat_map(|s| s.ast.body).any(|i| is_step(i) && says(i, text))
            }
        };
        match self.asked.into_iter().find(|asked| !asked.found && !elsewhere(asked)) {
            None => Ok(()),
            Some(asked) => Err(LowerError::Step { step: asked.step, steps: self.steps }),
        }
    }
}

fn which(plan: &Plan<'_>, step: &str) -> Which {
    let stages = |name: &str| -> Vec<usize> {
        let stages = plan.stages.iter().enumerate();
        stages.filter(|(at, stage)| is_called(*at, stage, name)).map(|(at, _)| at).collect()
    };
    let whole = stages(step);
    if !whole.is_empty() {
        return Which::Stages(whole);
    }
    if let Some((name, number)) = step.rsplit_once(':')
        && let Ok(number) = number.parse()
    {
        let stages = stages(name);
        if !stages.is_empty() {
            return Which::Numbered(stages, number);
        }
    }
    Which::Text(single_spaced(step))
}

/// A stage is called by its name, by its number, or as progress calls it (`stage-1`).
fn is_called(at: usize, stage: &Planned<'_>, name: &str) -> bool {
    name.eq_ignore_ascii_case(&stage.shown) || name == at.to_string()
}

fn says(instruction: &Instruction, text: &str) -> bool {
    let docs = instruction.heredocs.iter().map(|doc| doc.content.as_str());
    docs.chain([instruction.text.as_str()]).any(|it| single_spaced(it).contains(text))
}

fn single_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The steps of an error.
pub(super) fn listed(steps: &[String]) -> String {
    let mut text = steps[..steps.len().min(MAX_LISTED)].join(", ");
    if steps.len() > MAX_LISTED {
        text.push_str(&format!(" and {} more", steps.len() - MAX_LISTED));
    }
    text
}
