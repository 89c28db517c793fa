"""The command line: `main` and one file a verb family; what they print (`output`, `index_report`,
`answer_table`, `console`, `progress`) and how they fail (`errors`, `signals`). Nothing else imports from here.
"""
