"""AMD Instinct GPUs and EPYC sockets through AMD SMI."""
