"""Broken policies, written by hand: what is wrong, the text, and how the mistake begins."""

from tests.support.policy_texts import rules

DEFAULT = "{id: default, action: abstain}"

# The rules begin in line 4, column 5.
BROKEN = {
    # Not a file that can be read as YAML.
    "nothing": ("", "p.yaml:1:1 yaml: the file is empty"),
    "a comment alone": ("# later\n", "p.yaml:1:1 yaml: the file is empty"),
    "a list": ("- a\n", "p.yaml:1:1 policy: is a list; a map is expected"),
    "a word": ("policy\n", "p.yaml:1:1 policy: is text; a map is expected"),
    "a tab": ("version: 1\n\tname: p\n", "p.yaml:2:1 yaml: there is a tab here"),
    "a tab behind a key": ("version: 1\nname:\t[\n", "p.yaml:2:6 yaml: there is a tab here"),
    "an open bracket": ("rules: [\n", "p.yaml:2:1 yaml: "),
    "an open quotation mark": ('name: "p\n', "p.yaml:2:1 yaml: a quotation mark is never closed"),
    "two colons": ("name: a: b\n", "p.yaml:1:8 yaml: there is a second ':"),
    "a message that begins with a brace": (
        rules("{id: a, action: flag, message: {confidence:.0%} sure}"),
        "p.yaml:4:53 yaml: this does not fit inside the brackets: quote texts that contain {",
    ),
    "wrong indentation": ("version: 1\n name: p\n", "p.yaml:2:6 yaml: there is a second ':"),
    "two documents": ("version: 1\n---\nversion: 1\n", "p.yaml:2:1 yaml: a second document"),
    "an unknown anchor": ("name: *p\n", "p.yaml:1:7 yaml: found undefined alias"),
    "a character of no text": ("name: p\x00\n", "p.yaml:1:8 yaml: there is a character here"),
    "an anchor in itself": ("rules: &r [*r]\n", "p.yaml:1:8 yaml: an anchor contains itself"),
    "endless anchors": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)
        ),
        "p.yaml:1:",
    ),
    "endless nesting": ("rules: " + "[" * 500 + "]" * 500, "p.yaml:1:47 yaml: more than 40 levels"),
    "a tag": ("name: !!python/object/apply:os.getcwd []\n", "p.yaml:1:7 yaml: the tag"),
    "a tag of a text": ("name: !!str 1\n", "p.yaml:1:7 yaml: the tag"),
    "a merge key": ("<<: {version: 1}\n", "p.yaml:1:1 [\"<<\"]: the key '<<' is a merge key"),
    "a key that is a number": ("1: 2\n", 'p.yaml:1:1 ["1"]: the key 1 is not text'),
    "a key that is true": ("true: 2\n", "p.yaml:1:1 true: the key true is not text"),
    "on as a key": ("on: 2\n", "p.yaml:1:1 on: the key 'on' is true or false to some"),
    "a key that is a list": ("? [a]\n: 2\n", "p.yaml:1:3 yaml: a key is a list"),
    "an empty key": (": 2\n", "p.yaml:1:1 "),
    # Values that readers of YAML disagree about.
    "yes": (rules(DEFAULT, description="yes"), "p.yaml:5:14 description: 'yes' is true or false to some"),
    "off as an action": (rules("{id: a, action: off}"), "p.yaml:4:21 rules[0].action: 'off' is true"),
    "a date": (rules(DEFAULT, description="2026-01-01"), "p.yaml:5:14 description: '2026-01-01' is a date"),
    "an octal number": ("version: 01\n", "p.yaml:1:10 version: '01' is a different number to"),
    "a hexadecimal number": ("version: 0x1\n", "p.yaml:1:10 version: '0x1' is a different number to"),
    "a new octal number": ("version: 0o1\n", "p.yaml:1:10 version: '0o1' is a different number to"),
    "a number with underscores": ("version: 1_0\n", "p.yaml:1:10 version: '1_0' is a different number to"),
    "minutes": (
        rules(DEFAULT, description="1:30"),
        "p.yaml:5:14 description: '1:30' is a different number to",
    ),
    "infinity": (
        rules("{id: a, when: {uncertainty: {tokens: {lt: .inf}}}, action: pass}", DEFAULT),
        "p.yaml:4:47 ",
    ),
    "no number": (rules("{id: a, when: {confidence: {gte: .nan}}, action: pass}", DEFAULT), "p.yaml:4:38 "),
    "a number beyond all": (
        rules("{id: a, when: {uncertainty: {tokens: {lt: 1e999}}}, action: pass}", DEFAULT),
        "p.yaml:4:47 rules[0].when.uncertainty.tokens.lt: is a number too large",
    ),
    "an empty value": ("name:\nversion: 1\n", "p.yaml:1:6 name: has no value"),
    "an empty when": (rules("{id: a, when: , action: pass}"), "p.yaml:4:18 rules[0].when: has no value"),
    "a bound without a number": (
        rules("{id: a, when: {confidence: {gte: , lt: 0.5}}, action: pass}", DEFAULT),
        "p.yaml:4:37 rules[0].when.confidence.gte: has no value",
    ),
    # The policy's own keys.
    "an unknown key": (rules(DEFAULT, mod="observe"), "p.yaml:5:1 mod: unknown key; did you mean 'mode'?"),
    "a duplicate key": (rules(DEFAULT, name="q"), "p.yaml:5:1 name: duplicate key; it is already in line 2"),
    "no version": ("name: p\nrules: [{id: a, action: pass}]\n", "p.yaml:1:1 version: is missing"),
    "another version": (rules(DEFAULT).replace("1", "2", 1), "p.yaml:1:10 version: is 2; it can be 1"),
    "a version that is true": (rules(DEFAULT).replace("1", "true", 1), "p.yaml:1:10 version: is True"),
    "a version that is a text": (rules(DEFAULT).replace("1", "'1'", 1), "p.yaml:1:10 version: is "),
    "no name": ("version: 1\nrules: [{id: a, action: pass}]\n", "p.yaml:1:1 name: is missing"),
    "a name with blanks": (rules(DEFAULT).replace("p\n", "a b\n", 1), "p.yaml:2:7 name: is 'a b'; a name"),
    "a name that is a number": (
        rules(DEFAULT).replace("p\n", "7\n", 1),
        "p.yaml:2:7 name: is a number; text is",
    ),
    "an unknown mode": (
        rules(DEFAULT, mode="observ"),
        "p.yaml:5:7 mode: is 'observ'; did you mean 'observe'?",
    ),
    "an unknown streaming": (rules(DEFAULT, streaming="live"), "p.yaml:5:12 streaming: is 'live'; it can be"),
    "an unknown combination": (rules(DEFAULT, combine="best"), "p.yaml:5:10 combine: is 'best'; "),
    "no rules": ("version: 1\nname: p\n", "p.yaml:1:1 rules: is missing"),
    "an empty list of rules": ("version: 1\nname: p\nrules: []\n", "p.yaml:3:8 rules: is empty"),
    "rules that are a map": (
        "version: 1\nname: p\nrules: {a: pass}\n",
        "p.yaml:3:8 rules: is a map; a list is expected",
    ),
    # Rules.
    "a rule that is a word": (
        rules("pass", DEFAULT),
        "p.yaml:4:5 rules[0]: is text; a map with id, when and",
    ),
    "a rule without an id": (rules("{action: pass}"), "p.yaml:4:5 rules[0].id: is missing"),
    "a rule without an action": (rules("{id: a}"), "p.yaml:4:5 rules[0].action: is missing"),
    "an unknown action": (
        rules("{id: a, action: alow}"),
        "p.yaml:4:21 rules[0].action: is 'alow'; it can be pass",
    ),
    "a misspelt action": (
        rules("{id: a, action: abstane}"),
        "p.yaml:4:21 rules[0].action: is 'abstane'; did you",
    ),
    "an action that is a key": (rules("{id: a, action: {pass: }}"), "p.yaml:4:21 rules[0].action: is a map"),
    "an unknown key of a rule": (
        rules("{id: a, action: pass, msg: x}"),
        "p.yaml:4:27 rules[0].msg: unknown key",
    ),
    "a duplicate id": (
        rules("{id: default, when: {tags: a}, action: pass}", DEFAULT),
        "p.yaml:5:10 rules[1].id: duplicate id 'default'; the rule in line 4",
    ),
    "an id that decisions use": (
        rules("{id: on_error, action: abstain}"),
        "p.yaml:4:10 rules[0].id: 'on_error' is reserved for decisions",
    ),
    "no default": (
        rules("{id: a, when: {tags: a}, action: pass}"),
        "p.yaml:4:5 rules: no default: the last rule has conditions",
    ),
    "a rule below the default": (
        rules("{id: first, action: abstain}", DEFAULT),
        "p.yaml:5:5 rules[1]: can never decide: 'first' (line 4) has no when",
    ),
    # Conditions.
    "an unknown condition": (
        rules("{id: a, when: {confidense: {gte: 0.5}}, action: pass}", DEFAULT),
        "p.yaml:4:20 rules[0].when.confidense: unknown key; did you mean 'confidence'?",
    ),
    "no condition": (
        rules("{id: a, when: {}, action: pass}", DEFAULT),
        "p.yaml:4:19 rules[0].when: has no condition",
    ),
    "conditions that are a list": (
        rules("{id: a, when: [tags], action: pass}", DEFAULT),
        "p.yaml:4:19 rules[0].when: is a list; a map such as",
    ),
    "a bound without its kind": (
        rules("{id: a, when: {confidence: 0.5}, action: pass}", DEFAULT),
        "p.yaml:4:32 rules[0].when.confidence: is a number; a map such as {gte: 0.5} is expected",
    ),
    "no bound": (
        rules("{id: a, when: {confidence: {}}, action: pass}", DEFAULT),
        "p.yaml:4:32 rules[0].when.confidence: has no bound",
    ),
    "an unknown bound": (
        rules("{id: a, when: {confidence: {min: 0.5}}, action: pass}", DEFAULT),
        "p.yaml:4:33 rules[0].when.confidence.min: unknown key; it can be gte or gt or lte or lt",
    ),
    "a bound that is a text": (
        rules("{id: a, when: {confidence: {gte: '0.5'}}, action: pass}", DEFAULT),
        "p.yaml:4:38 rules[0].when.confidence.gte: is text; a number is expected; remove the",
    ),
    "a bound that is true": (
        rules("{id: a, when: {confidence: {gte: true}}, action: pass}", DEFAULT),
        "p.yaml:4:38 rules[0].when.confidence.gte: is true; a number is expected",
    ),
    "percents": (
        rules("{id: a, when: {confidence: {gte: 90}}, action: pass}", DEFAULT),
        "p.yaml:4:38 rules[0].when.confidence.gte: is 90; it must be at most 1",
    ),
    "a quantile below zero": (
        rules("{id: a, when: {quantile: {hybridgrad: {gte: -0.1}}}, action: pass}", DEFAULT),
        "p.yaml:4:49 rules[0].when.quantile.hybridgrad.gte: is -0.1; it must be",
    ),
    "an unknown score": (
        rules("{id: a, when: {uncertainty: {hybrid_grad: {gte: 1}}}, action: pass}", DEFAULT),
        "p.yaml:4:34 rules[0].when.uncertainty.hybrid_grad: unknown score; did you mean 'hybridgrad'?",
    ),
    "a score that is the profile's": (
        rules("{id: a, when: {uncertainty: {confidence_score: {gte: 1}}}, action: pass}", DEFAULT),
        "p.yaml:4:34 rules[0].when.uncertainty.confidence_score: unknown score",
    ),
    "a score out of its range": (
        rules("{id: a, when: {uncertainty: {min_token_probability: {gt: 1.5}}}, action: pass}", DEFAULT),
        "p.yaml:4:62 rules[0].when.uncertainty.min_token_probability.gt: is 1.5; min_token_",
    ),
    "no score": (
        rules("{id: a, when: {uncertainty: {}}, action: pass}", DEFAULT),
        "p.yaml:4:33 rules[0].when.uncertainty: is empty",
    ),
    "a guarantee without confidence": (
        rules("{id: a, when: {certified: {max_error: 0.05}}, action: pass}", DEFAULT),
        "p.yaml:4:31 rules[0].when.certified.confidence: is missing",
    ),
    "a guarantee of nothing": (
        rules("{id: a, when: {certified: {max_error: 1, confidence: 0.9}}, action: pass}", DEFAULT),
        "p.yaml:4:43 rules[0].when.certified.max_error: is 1; it must be",
    ),
    "an unknown finish reason": (
        rules("{id: a, when: {finish_reason: [stop, lenght]}, action: pass}", DEFAULT),
        "p.yaml:4:42 rules[0].when.finish_reason[1]: is 'lenght'; did you mean 'length'?",
    ),
    "no tag": (
        rules("{id: a, when: {tags: []}, action: pass}", DEFAULT),
        "p.yaml:4:26 rules[0].when.tags: is empty",
    ),
    "an empty tag": (
        rules("{id: a, when: {tags: ['']}, action: pass}", DEFAULT),
        "p.yaml:4:27 rules[0].when.tags[0]: is empty",
    ),
    "a tag that is a number": (
        rules("{id: a, when: {tags: [7]}, action: pass}", DEFAULT),
        "p.yaml:4:27 rules[0].when.tags[0]: is a number; text is expected; put it in quotes",
    ),
    "tool_call: false": (
        rules("{id: a, when: {tool_call: false}, action: pass}", DEFAULT),
        "p.yaml:4:31 rules[0].when.tool_call: is false; write not: {tool_call: true}",
    ),
    "any of nothing": (
        rules("{id: a, when: {any: []}, action: pass}", DEFAULT),
        "p.yaml:4:25 rules[0].when.any: is",
    ),
    "any that is a map": (
        rules("{id: a, when: {any: {tags: x}}, action: pass}", DEFAULT),
        "p.yaml:4:25 rules[0].when.any: is a map; a list is expected",
    ),
    "a mistake deep within": (
        rules("{id: a, when: {all: [{not: {any: [{tags: x}, {tag: y}]}}]}, action: pass}", DEFAULT),
        "p.yaml:4:51 rules[0].when.all[0].not.any[1].tag: unknown key; did you mean 'tags'?",
    ),
    # Rules that can never decide.
    "bounds that contradict each other": (
        rules("{id: a, when: {confidence: {gte: 0.9, lt: 0.5}, tags: x}, action: pass}", DEFAULT),
        "p.yaml:4:32 rules[0].when.confidence: can never hold",
    ),
    "bounds that leave nothing": (
        rules("{id: a, when: {uncertainty: {perplexity: {lt: 1}}}, action: pass}", DEFAULT),
        "p.yaml:4:33 rules[0].when.uncertainty: can never hold",
    ),
    "conditions that contradict each other": (
        rules("{id: a, when: {confidence: {gt: 0.5}, not: {confidence: {gte: 0.5}}}, action: pass}", DEFAULT),
        "p.yaml:4:19 rules[0].when: can never hold",
    ),
    "facts that contradict each other": (
        rules(
            "{id: a, when: {finish_reason: stop, not: {finish_reason: [stop, length]}}, action: pass}",
            DEFAULT,
        ),
        "p.yaml:4:19 rules[0].when: can never hold",
    ),
    "a rule behind a wider one": (
        rules(
            "{id: wide, when: {confidence: {gte: 0.5}}, action: flag}",
            "{id: narrow, when: {confidence: {gt: 0.7}, tags: x}, action: pass}",
            DEFAULT,
        ),
        "p.yaml:5:5 rules[1]: can never decide: 'wide' (line 4) decides first",
    ),
    "a rule behind two that take it in together": (
        rules(
            "{id: low, when: {confidence: {lt: 0.5}}, action: abstain}",
            "{id: high, when: {confidence: {gte: 0.5}}, action: pass}",
            "{id: middle, when: {confidence: {gte: 0.4, lt: 0.6}}, action: flag}",
            DEFAULT,
        ),
        "p.yaml:6:5 rules[2]: can never decide: earlier rules decide first",
    ),
    "a tool behind its pattern": (
        rules(
            "{id: all, when: {tool_call: 'send_*'}, action: abstain}",
            "{id: one, when: {tool_call: [send_mail]}, action: pass}",
            DEFAULT,
        ),
        "p.yaml:5:5 rules[1]: can never decide",
    ),
    "any tool behind all of them": (
        rules(
            "{id: all, when: {tool_call: true}, action: abstain}",
            "{id: some, when: {tool_call: 'read_*'}, action: pass}",
            DEFAULT,
        ),
        "p.yaml:5:5 rules[1]: can never decide",
    ),
    "a rule behind a condition that always holds": (
        rules(
            "{id: always, when: {confidence: {gte: 0}}, action: flag}",
            "{id: sure, when: {confidence: {gte: 0.9}}, action: pass}",
            DEFAULT,
        ),
        "p.yaml:5:5 rules[1]: can never decide",
    ),
    "the same rule twice": (
        rules(
            "{id: a, when: {certified: {max_error: 0.05, confidence: 0.95}}, action: pass}",
            "{id: b, when: {certified: {max_error: 0.05, confidence: 0.95}}, action: flag}",
            DEFAULT,
        ),
        "p.yaml:5:5 rules[1]: can never decide",
    ),
    # Messages.
    "an unknown placeholder": (
        rules("{id: a, action: flag, message: '{confidnce}'}"),
        "p.yaml:4:36 rules[0].message: has the unknown placeholder {confidnce}; did you mean 'confidence'?",
    ),
    "an attribute": (
        rules("{id: a, action: flag, message: '{confidence.__class__}'}"),
        "p.yaml:4:36 rules[0].message: has the unknown placeholder",
    ),
    "an index": (
        rules("{id: a, action: flag, message: '{tokens[0]}'}"),
        "p.yaml:4:36 rules[0].message: has the unk",
    ),
    "a conversion": (
        rules("{id: a, action: flag, message: '{tokens!r}'}"),
        "p.yaml:4:36 rules[0].message: has the",
    ),
    "a placeholder by number": (
        rules("{id: a, action: flag, message: '{}'}"),
        "p.yaml:4:36 rules[0].message: has",
    ),
    "a huge width": (
        rules("{id: a, action: flag, message: '{confidence:999999999}'}"),
        "p.yaml:4:36 rules[0].message: has the format '999999999' for confidence; write {confidence:.2f}",
    ),
    "a format within a format": (
        rules("{id: a, action: flag, message: '{confidence:{tokens}}'}"),
        "p.yaml:4:36 ",
    ),
    "a format of a text": (
        rules("{id: a, action: flag, message: '{rule:.2f}'}"),
        "p.yaml:4:36 rules[0].message: has the format '.2f' for rule; write {rule}",
    ),
    "an open brace": (
        rules("{id: a, action: flag, message: 'a { b'}"),
        "p.yaml:4:36 rules[0].message: has a { that is not part of a placeholder",
    ),
    "an empty message": (
        rules("{id: a, action: flag, message: ''}"),
        "p.yaml:4:36 rules[0].message: is empty",
    ),
    "a message that is never shown": (
        rules("{id: a, action: pass, message: hello}"),
        "p.yaml:4:36 rules[0].message: is never shown with pass",
    ),
    # Fallbacks.
    "an error that passes": (
        rules(DEFAULT, on_error="pass"),
        "p.yaml:5:11 on_error: is 'pass'; it can be abstain",
    ),
    "an error that is flagged": (
        rules(DEFAULT, on_error="flag"),
        "p.yaml:5:11 on_error: is 'flag'; it can be",
    ),
    "an error that passes in a map": (
        rules(DEFAULT, on_error="{action: pass}"),
        "p.yaml:5:20 on_error.action: is 'pass'; it can be abstain or escalate",
    ),
    "a list of fallbacks": (
        rules(DEFAULT, on_error="[abstain]"),
        "p.yaml:5:11 on_error: is a list; a map such as",
    ),
    "the unknown that passes": (
        rules(DEFAULT, on_uncalibrated="pass"),
        "p.yaml:5:18 on_uncalibrated: is 'pass'; it can be flag or abstain or escalate",
    ),
    "a fallback with a target for nothing": (
        rules(DEFAULT, on_error="{to: t}", escalation="{t: {callable: 'a:b'}}"),
        "p.yaml:5:16 on_error.to: is only for action: escalate, but the action is another",
    ),
    "a fallback without a target": (
        rules(DEFAULT, on_error="escalate"),
        "p.yaml:5:11 on_error.to: is missing: escalate needs a target under escalation (none yet)",
    ),
    # Escalation.
    "escalate without to": (
        rules("{id: a, action: escalate}", escalation="{human: {queue: 'sqlite:///q.db'}}"),
        "p.yaml:4:5 rules[0].to: is missing: escalate needs a target under escalation (human)",
    ),
    "to without escalate": (
        rules("{id: a, action: flag, to: human}", escalation="{human: {queue: 'sqlite:///q.db'}}"),
        "p.yaml:4:31 rules[0].to: is only for action: escalate, but the action is flag",
    ),
    "an unknown target": (
        rules("{id: a, action: escalate, to: humans}", escalation="{human: {queue: 'sqlite:///q.db'}}"),
        "p.yaml:4:35 rules[0].to: is 'humans', but there is no such target under escalation; did you mean",
    ),
    "a target of no kind": (
        rules(DEFAULT, escalation="{t: {timeout_s: 3}}"),
        "p.yaml:5:17 escalation.t: needs exactly one",
    ),
    "an empty target": (rules(DEFAULT, escalation="{t: {}}"), "p.yaml:5:17 escalation.t: needs exactly one"),
    "a target of two kinds": (
        rules(DEFAULT, escalation="{t: {queue: 'sqlite:///q', callable: 'a:b'}}"),
        "p.yaml:5:17 escalation.t: needs exactly one of queue, chat_model, callable, but has queue and",
    ),
    "a misspelt kind": (
        rules(DEFAULT, escalation="{t: {que: 'sqlite:///q'}}"),
        "p.yaml:5:18 escalation.t.que: unknown key; did you mean 'queue'?",
    ),
    "a target called abstain": (
        rules(DEFAULT, escalation="{abstain: {queue: 'sqlite:///q'}}"),
        "p.yaml:5:14 escalation.abstain: 'abstain' is reserved",
    ),
    "a name of a target with blanks": (
        rules(DEFAULT, escalation="{a b: {queue: 'sqlite:///q'}}"),
        "p.yaml:5:14 escalation[\"a b\"]: is 'a b'; a name",
    ),
    "another database": (
        rules(DEFAULT, escalation="{t: {queue: 'postgres://db'}}"),
        "p.yaml:5:25 escalation.t.queue: is 'postgres://db'; write sqlite:///FILE",
    ),
    "a chat model without a provider": (
        rules(DEFAULT, escalation="{t: {chat_model: gpt-5}}"),
        "p.yaml:5:30 escalation.t.chat_model: is 'gpt-5'; write provider:model",
    ),
    "a callable without a function": (
        rules(DEFAULT, escalation="{t: {callable: my_app}}"),
        "p.yaml:5:28 escalation.t.callable: is 'my_app'; write module:function",
    ),
    "a callable that is code": (
        rules(DEFAULT, escalation="{t: {callable: 'os:system(1)'}}"),
        "p.yaml:5:28 escalation.t.callable: is 'os:system(1)'; write",
    ),
    "a secret": (
        rules(DEFAULT, escalation="{t: {chat_model: 'a:b', arguments: {api_key: x}}}"),
        "p.yaml:5:48 escalation.t.arguments: holds api_key; a policy is shown",
    ),
    "arguments of a queue": (
        rules(DEFAULT, escalation="{t: {queue: 'sqlite:///q', arguments: {a: 1}}}"),
        "p.yaml:5:51 escalation.t.arguments: are only for a chat_model, but this is a queue;",
    ),
    "no time": (
        rules(DEFAULT, escalation="{t: {callable: 'a:b', timeout_s: 0}}"),
        "p.yaml:5:46 escalation.t.timeout_s: is 0; it must be more than 0",
    ),
    "a fallback of a target that is not there": (
        rules(DEFAULT, escalation="{t: {callable: 'a:b', on_error: abstian}}"),
        "p.yaml:5:45 escalation.t.on_error: is 'abstian', but there is no such target; did you mean",
    ),
    "a target that falls to itself": (
        rules(DEFAULT, escalation="{t: {callable: 'a:b', on_error: t}}"),
        "p.yaml:5:45 escalation.t.on_error: is circular: t to t",
    ),
    "targets that fall in a circle": (
        rules(DEFAULT, escalation="{t: {callable: 'a:b', on_error: u}, u: {callable: 'a:b', on_error: t}}"),
        "p.yaml:5:45 escalation.t.on_error: is circular: t to u to t",
    ),
    # Streaming.
    "an answer outside that passes": (
        rules(DEFAULT, on_outside_domain="pass"),
        "p.yaml:5:20 on_outside_domain: is 'pass'; it can be flag or abstain or escalate",
    ),
    "an answer outside that passes in full": (
        rules(DEFAULT, on_outside_domain="{action: pass}"),
        "p.yaml:5:29 on_outside_domain.action: is 'pass'; it can be flag or abstain or escalate",
    ),
    "an answer outside that goes nowhere": (
        rules(DEFAULT, on_outside_domain="escalate"),
        "p.yaml:5:20 on_outside_domain.to: is missing: escalate needs a target under escalation (none yet); "
        "write on_outside_domain: {action: escalate, to: NAME}",
    ),
    "a rule called as what decides outside": (
        rules("{id: on_outside_domain, action: abstain}"),
        "p.yaml:4:10 rules[0].id: 'on_outside_domain' is reserved for decisions by on_outside_domain; choose",
    ),
    "annotate with an answer outside that is withheld": (
        rules(
            "{id: a, action: flag}", streaming="annotate", on_uncalibrated="flag", on_outside_domain="abstain"
        ),
        "p.yaml:7:20 on_outside_domain: is abstain, and streaming: annotate",
    ),
    "annotate with an answer outside that is withheld unsaid": (
        rules("{id: a, action: flag}", streaming="annotate", on_uncalibrated="flag"),
        "p.yaml:5:12 streaming: on_outside_domain defaults to abstain, and streaming:",
    ),
    "annotate with abstain": (
        rules(DEFAULT, streaming="annotate", on_uncalibrated="flag"),
        "p.yaml:4:27 rules[0].action: is abstain, and streaming: annotate shows tokens before the verdict",
    ),
    "annotate with escalate": (
        rules(
            "{id: a, action: escalate, to: t}",
            streaming="annotate",
            on_uncalibrated="flag",
            escalation="{t: {callable: 'a:b'}}",
        ),
        "p.yaml:4:21 rules[0].action: is escalate, and streaming: annotate",
    ),
    "annotate with an unknown that is withheld": (
        rules("{id: a, action: flag}", streaming="annotate", on_uncalibrated="abstain"),
        "p.yaml:6:18 on_uncalibrated: is abstain, and streaming: annotate",
    ),
    "annotate with an unknown that is withheld unsaid": (
        rules("{id: a, action: flag}", streaming="annotate"),
        "p.yaml:5:12 streaming: on_uncalibrated defaults to abstain",
    ),
    # Files and variables.
    "a profile that is not there": (
        rules(DEFAULT, profile="./nope.json"),
        "p.yaml:5:10 profile: There is no profile nowhere/nope.json",
    ),
    "a ready profile that is not there": (
        rules(DEFAULT, profile="builtin:no-such-model"),
        "p.yaml:5:10 profile: no profile ships for 'no-such-model'",
    ),
    "a base that is not there": (
        "version: 1\nextends: ./nope.yaml\n",
        "p.yaml:2:10 extends: nowhere/nope.yaml: there is no such file",
    ),
    "a ready base that is not there": (
        "version: 1\nextends: builtin:strct\n",
        "p.yaml:2:10 extends: there is no built-in policy 'strct'; did you mean 'strict'?",
    ),
    "a list of bases": (
        "version: 1\nextends: [a]\n",
        "p.yaml:2:10 extends: is a list; text is expected",
    ),
    "a variable that is not set": (
        rules(DEFAULT, model="${MODEL}"),
        "p.yaml:5:8 model: the environment variable MODEL is not set; set it, or write ${MODEL:-default}",
    ),
    "half a variable": (rules(DEFAULT, model="'${MODEL'"), "p.yaml:5:8 model: '${MODEL' is not a variable"),
    "a variable of no name": (rules(DEFAULT, model="'${1}'"), "p.yaml:5:8 model: '${1}' is not a variable"),
    "a log without a file": (rules(DEFAULT, log="{text: full}"), "p.yaml:5:6 log.file: is missing"),
    "an unknown text of a log": (
        rules(DEFAULT, log="{file: a, text: hashed}"),
        "p.yaml:5:22 log.text: is 'hashed'; did you mean 'hash'?",
    ),
}
