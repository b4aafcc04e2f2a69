"""Equation of state of the Lennard-Jones fluid of Johnson, Zollweg and Gubbins.

Mol. Phys. 78, 591 (1993), in reduced units: parameters of Table 10, the coefficients of Tables 5
to 7, fitted to simulations of the full potential (0.7 < T* < 6). All follows from the residual
Helmholtz energy ``A = sum_i a_i rho^i / i + sum_i b_i G_i``.
"""

import math

GAMMA = 3.0
X = (
    math.nan,
    0.8623085097507421,
    2.976218765822098,
    -8.402230115796038,
    0.1054136629203555,
    -0.8564583828174598,
    1.582759470107601,
    0.7639421948305453,
    1.753173414312048,
    2.798291772190376e3,
    -4.8394220260857657e-2,
    0.9963265197721935,
    -3.698000291272493e1,
    2.084012299434647e1,
    8.305402124717285e1,
    -9.574799715203068e2,
    -1.477746229234994e2,
    6.398607852471505e1,
    1.603993673294834e1,
    6.805916615864377e1,
    -2.791293578795945e3,
    -6.245128304568454,
    -8.116836104958410e3,
    1.488735559561229e1,
    -1.059346754655084e4,
    -1.131607632802822e2,
    -8.867771540418822e3,
    -3.986982844450543e1,
    -4.689270299917261e3,
    2.593535277438717e2,
    -2.694523589434903e3,
    -7.218487631550215e2,
    1.721802063863269e2,
)


def _coefficients(temperature: float) -> tuple[list[float], list[float]]:
    """``a_1`` to ``a_8`` and ``b_1`` to ``b_6``."""
    t, u = temperature, 1 / temperature
    a = [
        X[1] * t + X[2] * math.sqrt(t) + X[3] + X[4] * u + X[5] * u**2,
        X[6] * t + X[7] + X[8] * u + X[9] * u**2,
        X[10] * t + X[11] + X[12] * u,
        X[13],
        X[14] * u + X[15] * u**2,
        X[16] * u,
        X[17] * u + X[18] * u**2,
        X[19] * u**2,
    ]
    b = [
        X[20] * u**2 + X[21] * u**3,
        X[22] * u**2 + X[23] * u**4,
        X[24] * u**2 + X[25] * u**3,
        X[26] * u**2 + X[27] * u**4,
        X[28] * u**2 + X[29] * u**3,
        X[30] * u**2 + X[31] * u**3 + X[32] * u**4,
    ]
    return a, b


def pressure(temperature: float, density: float) -> float:
    """``P* = rho T + sum_i a_i rho^(i+1) + exp(-gamma rho^2) sum_i b_i rho^(2i+1)``."""
    a, b = _coefficients(temperature)
    total = density * temperature
    total += sum(value * density ** (i + 2) for i, value in enumerate(a))
    decay = math.exp(-GAMMA * density**2)
    return total + decay * sum(value * density ** (2 * i + 3) for i, value in enumerate(b))


def helmholtz(temperature: float, density: float) -> float:
    """Residual Helmholtz energy of an atom."""
    a, b = _coefficients(temperature)
    total = sum(value * density ** (i + 1) / (i + 1) for i, value in enumerate(a))
    decay = math.exp(-GAMMA * density**2)
    integral = (1 - decay) / (2 * GAMMA)
    for i, value in enumerate(b):
        if i:
            integral = (2 * i * integral - decay * density ** (2 * i)) / (2 * GAMMA)
        total += value * integral
    return total


def energy(temperature: float, density: float) -> float:
    """Residual internal energy of an atom, ``U = A - T dA/dT``."""
    step = 1e-5 * temperature
    slope = helmholtz(temperature + step, density) - helmholtz(temperature - step, density)
    return helmholtz(temperature, density) - temperature * slope / (2 * step)
