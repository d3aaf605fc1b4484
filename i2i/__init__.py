"""i2i: mannequin photographs in, model photography out.

Layers, outermost first; imports only point down this list:
`app` (composition root) · `web`, `cli` · `worker`, `practice` · `services` ·
`queries`, `gateways` · `sql`, `db`, `logs`, `imaging`, `forms`, `passwords`, `embedded`,
`explanations` ·
`models` · `errors` · `config`.
`docs/architecture.md` has the picture and the reasons.
"""

__version__ = "0.1.0.dev0"
