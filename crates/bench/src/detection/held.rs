//! How far the score's weights hang on the roles that they were chosen on: those that are best in one role, judged in each other.

use std::collections::BTreeSet;

use super::judged::{self, Execution, Method, Pool, Weights};
use super::percent;
use super::splits::{Part, Split};
use super::traces::Run;
use crate::table::Table;

/// How often the runs are parted anew.
const SPLITS: u64 = 3;

/// What is found with some weights.
#[derive(Clone, Copy, Debug)]
struct Worth {
    auroc: f64,
    one: f64,
    tenth: f64,
}

/// Prints what the weights find in a role that others were chosen on.
pub(super) fn evaluate(runs: &[Run]) {
    let roles: BTreeSet<&str> = runs.iter().map(|run| run.role.as_str()).collect();
    if roles.len() < 2 {
        return;
    }
    let heads = [
        "chosen on",
        "values at most",
        "result",
        "order",
        "judged in",
        "AUROC",
        "at 1 %",
        "at 0.1 %",
        "the product's there: AUROC",
        "at 1 %",
        "at 0.1 %",
    ];
    let mut table = Table::new(&heads);
    for judged_in in &roles {
        let here = executions(runs, |role| role == *judged_in);
        let elsewhere = executions(runs, |role| role != *judged_in);
        // By what is found at both shares of false alerts together: that is what an operator has of it.
        let best = all().max_by(|one, other| {
            let worth = |weights: Weights| worth(&elsewhere, Method::Weighted(weights));
            let (one, other) = (worth(*one), worth(*other));
            (one.one + one.tenth).total_cmp(&(other.one + other.tenth))
        });
        let Some(best) = best else { continue };
        let (chosen, product) = (worth(&here, Method::Weighted(best)), worth(&here, Method::Score));
        let others: Vec<&str> = roles.iter().filter(|role| *role != judged_in).copied().collect();
        let figures = |worth: Worth| [format!("{:.3}", worth.auroc), percent(worth.one), percent(worth.tenth)];
        let weights = [best.values_max, best.result, best.order].map(|weight| weight.to_string());
        let cells =
            [others.join(", ")].into_iter().chain(weights).chain([(*judged_in).to_owned()]).chain(figures(chosen)).chain(figures(product));
        table.row(cells);
    }
    println!("### Weights chosen on one role and judged in another, recurring tasks\n\n{table}");
}

/// Every weight that is tried, the product's among them.
fn all() -> impl Iterator<Item = Weights> {
    let three = |values: [f32; 3]| values.into_iter();
    three([3.0, 4.0, 6.0]).flat_map(move |values_max| {
        three([0.25, 0.5, 1.0]).flat_map(move |result| three([0.125, 0.25, 0.5]).map(move |order| Weights { values_max, result, order }))
    })
}

fn executions<'r>(runs: &'r [Run], is_meant: impl Fn(&str) -> bool) -> Vec<Vec<Execution<'r>>> {
    let of_roles = |part: &Part<'r>| part.judged.first().is_some_and(|run| is_meant(&run.role));
    (0..SPLITS)
        .map(|seed| Split::Recurring.part(runs, seed).iter().filter(|part| of_roles(part)).flat_map(|part| judged::judge(part)).collect())
        .collect()
}

fn worth(partings: &[Vec<Execution<'_>>], method: Method) -> Worth {
    let pools: Vec<Pool<'_>> = partings.iter().map(|executions| Pool::of(executions, method)).collect();
    let mean = |of: &dyn Fn(&Pool<'_>) -> f64| pools.iter().map(of).sum::<f64>() / pools.len().max(1) as f64;
    Worth { auroc: mean(&|pool| pool.auroc()), one: mean(&|pool| pool.found(0.01).found), tenth: mean(&|pool| pool.found(0.001).found) }
}
