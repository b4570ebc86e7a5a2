"""What each key of the users' files means, by model and key; `tables` puts it beside what the model itself says."""

MEANINGS: dict[str, dict[str, str]] = {
    "Workflow": {
        "name": "As the file is called.",
        "version": "Counts up with each change; shown as `name@version`.",
        "description": "For people.",
        "setup": "Shell commands that run once a worktree, with network, before the first phase works. "
        "What they leave is never committed. `setup` of the configuration replaces them.",
        "roles": "The jobs in this workflow.",
        "default_gates": "Gates of the phases that have no `gates` of their own.",
        "phases": "The steps, in their order.",
        "budget_usd": "Cap of a run where neither `--budget-usd` nor the configuration sets one.",
    },
    "Role": {
        "id": "Name of the role within the workflow.",
        "required_capabilities": "A persona must have them all. With `code_write`, the role's phases are code phases.",
        "preferred_backends": "Personas on an earlier one are taken first.",
        "distinct_from": "Roles that another persona must fill.",
    },
    "PhaseSpec": {
        "key": "Name of the phase; also of its files on the branch.",
        "title": "First line of the phase's commit.",
        "risk": "`high` implies a gate `high_risk` where the phase has none.",
        "role": "Who does it.",
        "instructions": "What the agent is told to do.",
        "timeout_seconds": "Time of one attempt; the repair has the same again.",
        "expected_artifact": "What the phase must leave; without it the agent only works, and the gates are asked.",
        "gates": "Stops after the phase. Absent: `default_gates`; an empty list: none.",
        "checks": "Checks that the engine runs after the agent has submitted.",
        "network": "Whether the agent's commands and the checks have network.",
        "allow_lock_files": "Whether dependency lock files may be changed.",
        "max_revisions": "How often this phase may send the work back (revise, or changes requested).",
        "revise_from": "The phase that a `revise` goes back to; this one or an earlier one. Absent: this one.",
        "on_changes_requested": "The phase to go back to when the artifact's verdict is `changes_requested`, "
        "with its findings as feedback; this one or an earlier one.",
    },
    "ExpectedArtifact": {
        "path": "Where the agent may write the artifact, relative to the worktree; never published from there.",
        "schema": "Id of its schema.",
    },
    "Gate": {
        "key": "Name of the gate. `budget_exceeded` and `session_recovery_required` are the engine's own.",
        "required_approvals": "How many different people must approve.",
    },
    "CheckUse": {
        "use": "Name of a check of the run, or `all`.",
        "expect": "Whether it must pass or fail. Where failures are expected, one failing check is enough.",
    },
    "Persona": {
        "name": "As the file is called.",
        "version": "Counts up with each change.",
        "description": "For people.",
        "backend": "What runs it. `command` is refused at binding: this version runs no command-line agents.",
        "model": "The model's name, as the server calls it. `--model` and `DEVFLOW_MODEL` win.",
        "prompt": "Who the agent is; the engine's rules are added to it.",
        "capabilities": "What it is good for; roles ask for these.",
        "tools": "What it may use. `submit_artifact` is there whenever the phase has an artifact.",
        "consent": "Whether somebody must consent first (`devflow consent grant NAME`); `true` means for both reasons.",
        "limits": "Bounds of one attempt.",
    },
    "PersonaLimits": {
        "max_turns": "Model turns in one attempt.",
        "max_output_tokens": "Longest single answer.",
        "command_timeout_seconds": "Longest single command or search.",
    },
    "Consent": {
        "reasons": "Why it asks.",
        "text": "What is shown to the person.",
    },
    "RepositoryConfig": {
        "checks": "The repository's checks by name. Absent: the usual ones are detected; an empty mapping: none.",
        "setup": "Replaces `setup` of the workflow.",
        "workflow": "Workflow of a run that names none.",
        "budget_usd": "Cap of a run in US dollars; `--budget-usd` wins.",
        "personas": "Role to persona, for every workflow with that role; `--persona ROLE=NAME` wins.",
        "prices": "Model name to price; replaces the built-in price and the operator's.",
        "approvers": "GitHub App: logins of those who may start and decide besides people with write permission.",
        "requester_may_approve": "GitHub App: whether who asked for a run may approve what it asks.",
        "required_approvals": "The least number of people who must approve at any gate; a gate may ask for more.",
        "labels": "GitHub App: further labels that start a run, each with its workflow, besides `devflow` and "
        "`devflow:NAME`.",
        "commands": "GitHub App: whether bare `/approve` counts, or only `/devflow approve`.",
        "on_conflict": "GitHub App: what a second trigger does while a run of the issue is live.",
        "abort_on_unlabel": "GitHub App: whether a run ends when the label that started it is taken off.",
        "publish_conversations": (
            "Action without a database: whether what models and tools said is kept with the run's state in a public "
            "repository, where everybody can read it. In a private one it always is."
        ),
    },
    "Check": {
        "run": "Shell command, run at the root of the worktree; exit code 0 is a pass.",
        "timeout_seconds": "Longest time; a check that runs out of it meets nothing.",
    },
    "PriceFile": {
        "as_of": "When the prices were looked up; for people.",
        "models": "Model name to price.",
    },
    "Price": {
        "input": "Per million input tokens.",
        "output": "Per million output tokens, reasoning included.",
        "cached": "Per million input tokens from the server's cache. Absent: as `input`.",
        "prefix": "Whether the entry holds for every model whose name begins like this.",
        "aliases": "Other names of the model.",
    },
    "Cassette": {
        "version": "Always 1.",
        "turns": "`PHASE/ROUND/ATTEMPT` to the turns of that attempt: a list of lists of calls.",
    },
    "RecordedCall": {
        "tool": "Name of the tool.",
        "arguments": "Its arguments.",
    },
}
