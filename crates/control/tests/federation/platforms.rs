//! Each platform's tokens as it makes them, their keys read over HTTPS: the right one is accepted, and of a table of wrong ones,
//! each a single change to the right one, none.

use serde_json::{Value, json};

use super::by_workload;
use super::support::*;
use super::vouch::{House, Signing, patched};

/// A platform, what a bundle says of it, and a token that it makes.
struct Platform {
    /// The issuer's table, without its name and keys.
    issuer: &'static str,
    /// The claims of the agent's federation.
    federation: &'static str,
    /// The claims of a right token, without times and audience.
    claims: Value,
    signing: Signing,
}

impl Platform {
    /// Shows the right token, and each changed one.
    async fn check(&self, wrong: &[(&str, Value)]) {
        let house = House::publishing(vec![self.signing.jwk("a")]).await;
        let issuers =
            format!("[[issuer]]\nname = \"platform\"\n{}\njwks_uri = \"{}/keys\"\nca_file = \"ca.pem\"\n", self.issuer, house.url());
        let federation = format!("[[agent.federation]]\nissuer = \"platform\"\nclaims = {}\n", self.federation);
        let world = World::federated(&issuers, &federation, "").await;
        house.authority.write(&world.directory.path().join("ca.pem"));
        let now = world.clock.seconds();
        let right = patched(json!({ "aud": ISSUER, "iat": now, "nbf": now, "exp": now + 300, "jti": unique() }), &self.claims);
        let reply = by_workload(&world, &self.signing.token("a", &right)).await;
        assert_eq!(reply.status, 200, "{}: {reply:?} {:?}", self.issuer, world.refusals());
        assert_eq!(reply.claims()["client_id"], BOT);

        let common = [
            ("for another", json!({ "aud": "https://other.example" })),
            ("also for another", json!({ "aud": [ISSUER, "https://other.example"] })),
            ("expired", json!({ "exp": now - 31 })),
            ("without an end", json!({ "exp": null })),
            ("from the future", json!({ "nbf": now + 60 })),
        ];
        for (case, patch) in common.iter().chain(wrong) {
            let token = self.signing.token("a", &patched(right.clone(), patch));
            assert_eq!(by_workload(&world, &token).await.error(), "invalid_grant", "{}: {case}", self.issuer);
            world.clock.forward(1);
        }
        // Two clocks may differ by half a minute.
        let skewed = patched(right.clone(), &json!({ "iat": world.clock.seconds() + 29, "nbf": world.clock.seconds() + 29 }));
        assert_eq!(by_workload(&world, &self.signing.token("a", &skewed)).await.status, 200);
        // Another key under the same id, an algorithm that the platform does not use, and a public key taken for a secret.
        for signing in [Signing::ecdsa("P-256"), Signing::ecdsa("P-384")] {
            assert_eq!(by_workload(&world, &signing.token("a", &right)).await.error(), "invalid_grant", "{}", self.issuer);
        }
        for alg in ["none", "HS256", "PS256", "EdDSA"] {
            let token = self.signing.token_with(&json!({ "alg": alg, "kid": "a" }), &right);
            let accepts = self.issuer.contains("spiffe") && alg == "PS256" && matches!(self.signing, Signing::Rsa(_));
            assert_eq!(by_workload(&world, &token).await.status == 200, accepts, "{}: {alg}", self.issuer);
        }
        let person = self.signing.token("a", &right);
        let reply = world.ask(&[("grant_type", EXCHANGE), ("subject_token", &person), ("subject_token_type", JWT)]).await;
        assert_eq!(reply.error(), "invalid_request", "{}: a workload is no person", self.issuer);
    }
}

#[tokio::test]
async fn a_github_workflow_is_known_by_ids_in_both_forms_of_its_subject() {
    let github = |sub: &str| Platform {
        issuer: "issuer = \"https://token.actions.githubusercontent.com\"",
        federation: "{ repository_id = \"8842\", repository_owner_id = \"17\", environment = \"production\" }",
        claims: json!({
            "iss": "https://token.actions.githubusercontent.com", "sub": sub,
            "repository": "acme/bot", "repository_id": "8842", "repository_owner": "acme", "repository_owner_id": "17",
            "repository_visibility": "private", "environment": "production", "ref": "refs/heads/main", "ref_type": "branch",
            "ref_protected": "true", "sha": "4a2f", "workflow": "deploy", "workflow_ref": "acme/bot/.github/workflows/deploy.yml@refs/heads/main",
            "job_workflow_ref": "acme/bot/.github/workflows/deploy.yml@refs/heads/main", "run_id": "99", "run_number": "7",
            "run_attempt": "1", "actor": "ana", "actor_id": "5", "event_name": "push", "runner_environment": "github-hosted",
        }),
        signing: Signing::rsa(),
    };
    let wrong = |sub: &str| {
        [
            ("another repository", json!({ "repository_id": "8843" })),
            ("another repository of that name", json!({ "repository_id": "8843", "sub": sub })),
            ("a number that is written as one", json!({ "repository_id": ["8842"] })),
            ("a fork", json!({ "repository_owner_id": "18" })),
            ("another environment", json!({ "environment": "staging" })),
            ("no environment, as of a pull request", json!({ "environment": null, "sub": "repo:acme/bot:pull_request" })),
            ("no ids at all", json!({ "repository_id": null, "repository_owner_id": null })),
            ("a subject that says another repository", json!({ "sub": "repo:evil/bot:environment:production" })),
            ("a subject with the ids of another", json!({ "sub": "repo:acme@17/bot@1:environment:production" })),
            ("a subject with the id of another owner", json!({ "sub": "repo:acme@1/bot@8842:environment:production" })),
            ("an enterprise server's", json!({ "iss": "https://github.acme.example/_services/token" })),
        ]
    };
    for sub in ["repo:acme/bot:environment:production", "repo:acme@17/bot@8842:environment:production", "repository_owner_id:17:x"] {
        github(sub).check(&wrong(sub)).await;
    }
}

#[tokio::test]
async fn a_gitlab_job_is_known_by_its_project_and_a_login_of_the_same_issuer_is_no_job() {
    let gitlab = Platform {
        issuer: "issuer = \"https://gitlab.com\"",
        federation: "{ project_id = \"22\", environment = \"production\" }",
        claims: json!({
            "iss": "https://gitlab.com", "sub": "project_path:acme/bot:ref_type:branch:ref:main", "project_id": "22", "project_path": "acme/bot",
            "namespace_id": "72", "namespace_path": "acme", "user_id": "1", "user_login": "ana", "pipeline_id": "574", "pipeline_source": "push",
            "job_id": "302", "ref": "main", "ref_type": "branch", "ref_protected": "true", "environment": "production",
            "environment_protected": "false", "runner_id": 1, "ci_config_ref_uri": "gitlab.com/acme/bot//.gitlab-ci.yml@refs/heads/main",
        }),
        signing: Signing::rsa(),
    };
    gitlab
        .check(&[
            ("another project", json!({ "project_id": "23" })),
            ("a number for a text that is not equal", json!({ "project_id": 220 })),
            ("another environment", json!({ "environment": "review/x" })),
            ("a person's login", json!({ "sub": "1", "pipeline_id": null, "job_id": null, "project_id": null })),
            ("a login with the claims of a project", json!({ "pipeline_id": null, "job_id": null })),
            ("a server of another's own", json!({ "iss": "https://gitlab.acme.example" })),
        ])
        .await;
}

#[tokio::test]
async fn a_google_service_account_is_known_by_its_id_and_people_are_none() {
    let google = Platform {
        issuer: "issuer = \"https://accounts.google.com\"",
        federation: "{ sub = \"107517467455664443765\" }",
        claims: json!({
            "iss": "https://accounts.google.com", "sub": "107517467455664443765", "azp": "107517467455664443765",
            "email": "bot@acme.iam.gserviceaccount.com", "email_verified": true,
            "google": { "compute_engine": { "project_id": "acme", "project_number": 739_419_398_126_u64, "zone": "europe-west1-b",
                "instance_id": "152986662232938449", "instance_name": "bot", "instance_creation_timestamp": 1_551_380_000 } },
        }),
        signing: Signing::rsa(),
    };
    google
        .check(&[
            ("another account", json!({ "sub": "107517467455664443766" })),
            ("a person who signed in", json!({ "azp": "407408718192.apps.googleusercontent.com" })),
            ("a person's address", json!({ "email": "ana@acme.example" })),
            ("an address that looks like one", json!({ "email": "bot@acme.iam.gserviceaccount.com.evil.example" })),
            ("an address that nobody verified", json!({ "email_verified": false })),
            ("an address that is said to be verified", json!({ "email_verified": "true" })),
            ("the issuer without its scheme", json!({ "iss": "accounts.google.com" })),
        ])
        .await;
}

#[tokio::test]
async fn an_azure_identity_is_known_by_its_object_in_its_tenant() {
    let azure = |issuer: &'static str, iss: &str, more: Value| Platform {
        issuer,
        federation: "{ oid = \"ed0c3c5f-0d3b-4a5a-9f0d-1b1d4c3f2a10\" }",
        claims: patched(
            json!({
                "iss": iss, "sub": "ed0c3c5f-0d3b-4a5a-9f0d-1b1d4c3f2a10", "oid": "ed0c3c5f-0d3b-4a5a-9f0d-1b1d4c3f2a10",
                "tid": "72f988bf-86f1-41af-91ab-2d7cd011db47", "idtyp": "app", "uti": "x", "rh": "y",
                "xms_mirid": "/subscriptions/s/resourcegroups/acme/providers/Microsoft.ManagedIdentity/userAssignedIdentities/bot",
            }),
            &more,
        ),
        signing: Signing::rsa(),
    };
    let wrong = [
        ("another identity", json!({ "oid": "ed0c3c5f-0d3b-4a5a-9f0d-1b1d4c3f2a11" })),
        ("another tenant", json!({ "tid": "11111111-86f1-41af-91ab-2d7cd011db47" })),
        ("no tenant", json!({ "tid": null })),
        ("an empty tenant", json!({ "tid": "" })),
        ("a part of the address as tenant", json!({ "tid": "sts.windows.net" })),
        ("no object", json!({ "oid": null })),
        ("a person through an application", json!({ "scp": "user_impersonation" })),
        ("a person", json!({ "idtyp": "user" })),
        ("the other version's issuer", json!({ "iss": "https://sts.windows.net/72f988bf-86f1-41af-91ab-2d7cd011db47" })),
    ];
    let first = "issuer = \"https://sts.windows.net/72f988bf-86f1-41af-91ab-2d7cd011db47/\"";
    let iss = "https://sts.windows.net/72f988bf-86f1-41af-91ab-2d7cd011db47/";
    azure(first, iss, json!({ "ver": "1.0", "appid": "6e74172b", "appidacr": "2" })).check(&wrong).await;
    let second = "issuer = \"https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0\"";
    let iss = "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0";
    azure(second, iss, json!({ "ver": "2.0", "azp": "6e74172b", "azpacr": "2" })).check(&wrong).await;
}

#[tokio::test]
async fn an_aws_token_is_of_the_account_that_its_issuer_is_pinned_to() {
    for signing in [Signing::rsa(), Signing::ecdsa("P-384")] {
        let aws = Platform {
            issuer: "issuer = \"https://0f3e2b1a-def4-5678-90ab-cdef12345678.tokens.sts.global.api.aws\"\naccount = \"111122223333\"",
            federation: "{ sub = \"arn:aws:iam::111122223333:role/bot\" }",
            claims: json!({
                "iss": "https://0f3e2b1a-def4-5678-90ab-cdef12345678.tokens.sts.global.api.aws", "sub": "arn:aws:iam::111122223333:role/bot",
                "https://sts.amazonaws.com/": {
                    "aws_account": "111122223333", "source_region": "eu-central-1", "org_id": "o-abc1234567",
                    "principal_id": "arn:aws:iam::111122223333:role/bot", "ou_path": ["o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/"],
                    "request_tags": { "run": "7" }, "principal_tags": { "team": "cx" },
                },
            }),
            signing,
        };
        let own = |patch: Value| json!({ "https://sts.amazonaws.com/": patch });
        aws.check(&[
            ("another role", json!({ "sub": "arn:aws:iam::111122223333:role/other" })),
            (
                "another account",
                patched(own(json!({ "aws_account": "444455556666" })), &json!({ "sub": "arn:aws:iam::444455556666:role/bot" })),
            ),
            ("an account that is not its principal's", own(json!({ "aws_account": "444455556666" }))),
            ("a principal that is not its account's", json!({ "sub": "arn:aws:iam::444455556666:role/bot" })),
            ("no account", own(json!({ "aws_account": null }))),
            ("a principal that is no ARN", json!({ "sub": "bot" })),
            ("another account's issuer", json!({ "iss": "https://aaaaaaaa-def4-5678-90ab-cdef12345678.tokens.sts.global.api.aws" })),
        ])
        .await;
    }
}

#[tokio::test]
async fn any_other_issuer_is_found_by_discovery_and_matched_by_its_claims() {
    let signing = Signing::ecdsa("P-256");
    let house = House::publishing(vec![signing.jwk("a")]).await;
    let issuers = format!("[[issuer]]\nname = \"idp\"\nissuer = \"{}\"\nca_file = \"ca.pem\"\n", house.url());
    let world = World::start(&issuers).await;
    let now = world.clock.seconds();
    let right = json!({ "iss": house.url(), "sub": "bot", "aud": ISSUER, "iat": now, "exp": now + 300, "repository_id": "8842" });
    // Without its authority the house is not believed, and later it is.
    assert_eq!(by_workload(&world, &signing.token("a", &right)).await.error(), "invalid_grant");
    let detail = world.refusals().pop().unwrap().detail;
    assert!(detail.contains("ca.pem"), "{detail}");
    super::vouch::Authority::new().write(&world.directory.path().join("ca.pem"));
    world.clock.forward(31);
    assert_eq!(by_workload(&world, &signing.token("a", &right)).await.error(), "invalid_grant");
    house.authority.write(&world.directory.path().join("ca.pem"));
    world.clock.forward(31);
    assert_eq!(by_workload(&world, &signing.token("a", &right)).await.status, 200, "{:?}", world.refusals());
}
