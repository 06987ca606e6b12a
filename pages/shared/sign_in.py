"""Sign-in, where Streamlit's secrets have an ``[auth]`` section (OpenID Connect); without one there is none.

It says who may look, not who somebody is to us: whoever the provider lets in sees everything.
"""

from __future__ import annotations

import time

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

from core.language import say
from pages.shared.language import speak_to_visitor


def is_needed() -> bool:
    """Whether this visitor has to sign in before anything is shown; also again when the provider's word has expired."""
    if not _is_configured():
        return False
    if not st.user.is_logged_in:
        return True
    expires = st.user.to_dict().get("exp")  # Streamlit's own cookie lasts a month
    return isinstance(expires, int | float) and expires < time.time()


def draw() -> None:
    """What stands in place of every page until then."""
    speak_to_visitor()
    st.title("Vatio")
    st.markdown(say("Sign in to see what is measured here."))
    st.button(say("Sign in"), on_click=st.login, type="primary", icon=":material/login:")


def sign_out_button() -> None:
    """A way out, where there was a way in."""
    if _is_configured():
        st.button(say("Sign out"), on_click=st.logout, type="tertiary", icon=":material/logout:")


def _is_configured() -> bool:
    try:
        return "auth" in st.secrets
    except StreamlitSecretNotFoundError:
        return False
