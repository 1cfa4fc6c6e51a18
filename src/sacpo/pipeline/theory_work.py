THEORY = "theory.json"


def theory(study, out, at):
    raise NotImplementedError
