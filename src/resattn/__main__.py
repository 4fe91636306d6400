"""`python -m resattn` is the `resattn` command."""

from resattn_launcher import main

if __name__ == "__main__":
    main()
