"""Ordinary texts, as users send them to any model: an invocation that stands in one of these is no signal."""

ORDINARY: tuple[str, ...] = (
    "The ferry leaves at half past seven. Can you tell me when the next one goes, and what a ticket costs?",
    "Hi there!\n\nThanks for your help yesterday. One more question: is the answer the same for 2023?\n"
    "\nBest regards,\nMaren",
    "Question: What is the capital of Norway?\nAnswer: Oslo\n\nQuestion: And of Denmark?\nAnswer:",
    "Q: Is it raining?\nA: Yes, it is.\nQ: Will it stop?\nA:",
    "User: Hello, who are you?\nAssistant: I am an assistant. How can I help you?\nUser: Summarize this:",
    "Human: please continue\n\nAssistant: Sure, here is the rest of it.\n\nHuman: thanks\n\nAssistant:",
    "[10:42] maren: did you check the logs?\n[10:43] jon: yes, all good :)\n[10:43] maren: great, ship it",
    "# Notes\n\n- first item\n- second item\n  - nested\n\n1. one\n2. two\n\n> quoted *text* with `code` "
    "and a [link](https://example.org/a?b=c#d)\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n---\n\n**Note:** done.",
    "### Instruction:\nWrite a function that checks a date.\n\n### Input:\n2024-02-30\n\n### Response:\n",
    "```python\nimport sys\n\n\ndef check(value: int) -> bool:\n    \"\"\"Check it.\"\"\"\n    return value "
    ">= 3 and not value % 2\n\n\nif __name__ == \"__main__\":\n    print(check(int(sys.argv[1])))\n```",
    "for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; }\n// std::vector<int> xs{1, 2, 3};\nreturn sum != 0;",
    "<html>\n<body class=\"main\">\n<p>Hello &amp; <b>welcome</b></p>\n<!-- note -->\n</body>\n</html>",
    '{"name": "check", "values": [1, 2.5, null, true], "text": "line\\nbreak"}',
    "SELECT name, COUNT(*) FROM users WHERE age > 21 AND city = 'Oslo' GROUP BY name; -- done",
    "$ git status && ls -la | grep .py\nerror: pathspec 'main' did not match any file(s)\n\tat line 12:34",
    "Context: The lighthouse was lit in 1868.\nIs the passage relevant to the question? Reply yes or no.",
    "System: You are a helpful assistant.\nTask: classify the sentiment.\nText: I love it!\nLabel: positive\n"
    "Output: yes\nRequirement: be brief\nCheck: true\nResult:",
    "Let $x^2 + y^2 = 1$. Then \\frac{a}{b} = 3, so the answer is 42%.\nStep 1: rewrite.\nStep 2: solve it.",
    "La réunion est à 15 h, n'est-ce pas ? ¿Dónde está la estación? Das heißt: nächste Woche wäre schön.",
    "会议几点开始, 请用中文回答。\n灯台はいつ点灯しましたか。\n등대는 언제 켜졌나요?\n"
    "Зажгли ли маяк?\nمتى أضيئت المنارة؟",
    "lol ok 😂👍🏽 see u @ 8pm!!! #party ... http://example.org/x_y~z",
    "Dear Sir or Madam,\r\nplease find attached the invoice (no. 2024/117).\r\n\r\nTotal: € 1.234,50\r\n",
    "yes",
    "No, that is wrong. Try again, and think step by step: the first one is the right one.",
)  # fmt: skip
