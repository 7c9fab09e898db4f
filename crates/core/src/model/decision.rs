//! A decision: what was answered to a call, why, and in which words the agent and the operator hear of it.

use serde::{Deserialize, Serialize};

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The call goes ahead.
    Allow,
    /// The call ends here.
    Deny,
    /// The call waits for a person.
    Ask,
}

/// A stable code for why a call did not go ahead: agents and their developers may rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// The call goes ahead.
    Allowed,
    /// No such tool, or none that this agent may know of.
    UnknownTool,
    /// The agent's role does not include this tool.
    NotInRole,
    /// A policy forbids this very call.
    Forbidden,
    /// A policy could not be evaluated, so the call is denied.
    PolicyFailed,
    /// The tool exists but its definition differs from the reviewed one.
    ToolChanged,
    /// The arguments are not what the tool's reviewed definition takes.
    InvalidArguments,
    /// The execution's `authorization_details` do not include this call.
    OutsideGrant,
    /// The execution or the agent has used up what it was given.
    BudgetSpent,
    /// The person's own words say to which account, address or number, and it is another one.
    ContradictsTask,
    /// The call would carry data that may not leave by this tool.
    Confidential,
    /// Nobody who may chose what the call acts on.
    Untraced,
    /// What the call writes is too much to be remembered as written under untrusted influence.
    ArgumentsTooLong,
    /// A person has to approve this call.
    ApprovalRequired,
    /// A person was asked to approve this call and refused it.
    ApprovalRefused,
    /// The execution has asked people as often as it may.
    AskedTooOften,
    /// An agent that the present one acts for may not make this call, so neither may the present one for it.
    BeyondDelegation,
    /// An agent of the chain is not declared to delegate to the next.
    NotDelegated,
    /// The call is of another agent, and this one is not declared to delegate to it.
    UndeclaredInteraction,
    /// The agent, or one that it acts for, is quarantined.
    Quarantined,
    /// The execution has ended or was revoked.
    ExecutionEnded,
}

impl Code {
    /// The code as it is stored and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::UnknownTool => "unknown_tool",
            Self::NotInRole => "not_in_role",
            Self::Forbidden => "forbidden",
            Self::PolicyFailed => "policy_failed",
            Self::ToolChanged => "tool_changed",
            Self::InvalidArguments => "invalid_arguments",
            Self::OutsideGrant => "outside_grant",
            Self::BudgetSpent => "budget_spent",
            Self::ContradictsTask => "contradicts_task",
            Self::Confidential => "confidential",
            Self::Untraced => "untraced",
            Self::ArgumentsTooLong => "arguments_too_long",
            Self::ApprovalRequired => "approval_required",
            Self::ApprovalRefused => "approval_refused",
            Self::AskedTooOften => "asked_too_often",
            Self::BeyondDelegation => "beyond_delegation",
            Self::NotDelegated => "not_delegated",
            Self::UndeclaredInteraction => "undeclared_interaction",
            Self::Quarantined => "quarantined",
            Self::ExecutionEnded => "execution_ended",
        }
    }

    /// A sentence that an agent can act on; it never repeats a policy's text.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Allowed => "The call is allowed.",
            Self::UnknownTool => "There is no such tool for you. List the tools and use one of those.",
            Self::NotInRole => "Your role does not include this tool. Do the task with the tools that are listed, or say that you cannot.",
            Self::Forbidden => {
                "This call is not allowed with these arguments. Do not retry it unchanged; narrow it, or say that you cannot."
            }
            Self::PolicyFailed => "The call could not be judged and was therefore denied. Do not retry it; the operator has been told.",
            Self::ToolChanged => {
                "This tool has changed since it was reviewed and is held back until a person accepts it. Go on without it."
            }
            Self::InvalidArguments => {
                "The arguments are not what this tool takes. Check them against the tool's input schema and call again."
            }
            Self::OutsideGrant => {
                "This execution was started for a narrower purpose that does not include this call. Stay within the task."
            }
            Self::BudgetSpent => "This execution has used up what it may do. Finish with what you have.",
            Self::ContradictsTask => {
                "The task itself names an account, address or number, and this is another one. Use the one that the task names; if this one is meant, the person has to say so in a new task."
            }
            Self::Confidential => {
                "This call would carry data that may not leave by this tool, or text that may hold some. Say it with values that the task itself names, or say that you cannot."
            }
            Self::Untraced => {
                "What this call acts on comes from nobody who may choose it: not from the task, and not from data that is vouched for. Use a value that the task or such data names; if this one is meant, the person has to say so in a new task."
            }
            Self::ArgumentsTooLong => {
                "These arguments are too long for an execution that has read data from outside. Write the same in several calls with shorter arguments."
            }
            Self::ApprovalRequired => {
                "A person has to approve this call and was asked. Go on with something else, or make exactly this call again once it is approved."
            }
            Self::ApprovalRefused => "A person refused this call. Do not retry it; go on without it, or say that you cannot.",
            Self::AskedTooOften => "This execution has asked people as often as it may. Finish without what needs an approval.",
            Self::BeyondDelegation => {
                "An agent that you act for may not make this call, so you may not make it for that agent. Tell it that you cannot."
            }
            Self::NotDelegated => {
                "You may not act for the agent that this execution came from. Do nothing more for it; its operator has to allow it first."
            }
            Self::UndeclaredInteraction => {
                "You are not declared to have that agent act for you. Do the task without it, or say that you cannot."
            }
            Self::Quarantined => {
                "An operator has stopped this agent, or one that it acts for. Do not retry; nothing is done until it is released."
            }
            Self::ExecutionEnded => "This execution has ended. Nothing more can be done with its credential.",
        }
    }
}

/// One of the four answers that every decision gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Yes, no, or not judged.
    pub holds: Option<bool>,
    /// Why, in a sentence for the operator.
    pub because: String,
}

impl Answer {
    /// Yes, because.
    pub fn yes(because: impl Into<String>) -> Self {
        Self { holds: Some(true), because: because.into() }
    }

    /// No, because.
    pub fn no(because: impl Into<String>) -> Self {
        Self { holds: Some(false), because: because.into() }
    }

    /// It was not judged, because.
    pub fn unjudged(because: impl Into<String>) -> Self {
        Self { holds: None, because: because.into() }
    }
}

/// The four answers that are the product's face.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// Is this action reasonable for this specific agent, now? From the task, the flow of data, budgets.
    pub reasonable: Answer,
    /// Does it match the agent's role? From Cedar over agent, role, tool and arguments.
    pub role: Answer,
    /// Is this agent-to-agent interaction legitimate? From the verified delegation chain.
    pub delegation: Answer,
    /// Does it deviate from normal? From the agent's learned baseline and the detection rules.
    pub normal: Answer,
}

impl Answers {
    /// Why a person is asked: the first thing that does not hold.
    pub(crate) fn because_of_ask(&self) -> &str {
        let answers = [&self.reasonable, &self.role, &self.delegation, &self.normal];
        answers.into_iter().find(|answer| answer.holds == Some(false)).map_or("", |answer| answer.because.as_str())
    }
}

/// What was decided about one call, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What was decided.
    pub verdict: Verdict,
    /// Why, as a stable code.
    pub code: Code,
    /// The policies that determined it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// What went wrong while judging; never empty when the code is [`Code::PolicyFailed`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// The four answers.
    pub answers: Answers,
}
