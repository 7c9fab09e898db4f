//! What kind of program made a call, by what it says of itself.

/// A kind of program. It is told coarsely on purpose: a version or an operating system that changes is no news, and a name that nobody
/// has heard of is a program with an SDK like others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// A person in a browser, or what the AWS console does for one.
    Console,
    /// The command line.
    CommandLine,
    /// A tool that makes what files describe: Terraform, Pulumi, CloudFormation, CDK.
    Infrastructure,
    /// An AWS service.
    Service,
    /// Any other program.
    Program,
}

impl Client {
    /// The kind of what says this of itself (`userAgent`).
    pub fn of(says: &str) -> Self {
        let says = says.trim_start_matches('[');
        let has = |words: &[&str]| words.iter().any(|word| says.contains(word));
        match says {
            _ if has(&["Terraform", "OpenTofu", "Pulumi", "pulumi", "cloudformation", "aws-cdk", "Crossplane"]) => Self::Infrastructure,
            _ if has(&["Mozilla/", "Console", "console.", "signin.amazonaws.com", "AWS Internal", "aws-internal/"]) => Self::Console,
            _ if says.trim_end_matches(']').ends_with(".amazonaws.com") => Self::Service,
            _ if says.starts_with("aws-cli/") => Self::CommandLine,
            _ => Self::Program,
        }
    }

    /// A word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::CommandLine => "command line",
            Self::Infrastructure => "infrastructure",
            Self::Service => "service",
            Self::Program => "program",
        }
    }
}
