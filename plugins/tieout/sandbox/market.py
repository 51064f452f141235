"""What is fixed in the sandbox: markets, methods, merchants, processors, contracts and bank accounts."""

from __future__ import annotations

from dataclasses import dataclass

from tieout.sandbox.days import half_even

EXPONENTS = {"EUR": 2, "GBP": 2, "SEK": 2, "USD": 2, "JPY": 0, "KWD": 3, "NZD": 2}
PROCESSOR_LAG_DAYS = {"adyen": 2, "stripe": 2, "paypal": 0}


@dataclass(frozen=True, slots=True)
class Method:
    """A way to pay: its type and its network (scheme, wallet or bank scheme)."""

    method_type: str
    network: str


VISA = Method("card", "visa")
MASTERCARD = Method("card", "mastercard")
AMEX = Method("card", "amex")
PAYPAL = Method("wallet", "paypal")
IDEAL = Method("bank_transfer", "ideal")
METHODS = {method.network: method for method in (VISA, MASTERCARD, AMEX, PAYPAL, IDEAL)}

CARDS = (VISA,) * 10 + (MASTERCARD,) * 8 + (AMEX,) * 2
WITH_WALLET = (VISA,) * 8 + (MASTERCARD,) * 6 + (AMEX,) * 2 + (PAYPAL,) * 4
DUTCH = (IDEAL,) * 9 + (VISA,) * 4 + (MASTERCARD,) * 3 + (PAYPAL,) * 4


@dataclass(frozen=True, slots=True)
class Market:
    """A country we sell in; ``share`` is its part of a hundred payments."""

    country: str
    currency: str
    share: int
    methods: tuple[Method, ...]
    settled_in: str


MARKETS = {
    market.country: market
    for market in (
        Market("NL", "EUR", 20, DUTCH, "EUR"),
        Market("DE", "EUR", 18, WITH_WALLET, "EUR"),
        Market("FR", "EUR", 10, WITH_WALLET, "EUR"),
        Market("IE", "EUR", 4, WITH_WALLET, "EUR"),
        Market("GB", "GBP", 15, WITH_WALLET, "GBP"),
        Market("SE", "SEK", 8, CARDS, "EUR"),
        Market("US", "USD", 13, CARDS, "USD"),
        Market("JP", "JPY", 6, WITH_WALLET, "JPY"),
        Market("KW", "KWD", 3, CARDS, "KWD"),
        Market("NZ", "NZD", 3, WITH_WALLET, "NZD"),
    )
}
MARKET_DRAW = tuple(market for market in MARKETS.values() for _ in range(market.share))

# Price points in minor units; a payment buys one to three of one of them.
PRICES = {
    "EUR": (995, 1450, 1999, 2495, 3250, 4900, 6995, 8950, 12900, 24900),
    "GBP": (850, 1250, 1799, 2195, 2900, 4250, 5995, 7900, 11500, 21900),
    "SEK": (9900, 14900, 19900, 24900, 34900, 49900, 69900, 99900, 139900, 279900),
    "USD": (999, 1499, 1999, 2599, 3499, 5299, 7499, 9900, 13900, 26900),
    "JPY": (1480, 1980, 2980, 3980, 5480, 7980, 11800, 14800, 19800, 39800),
    "KWD": (3250, 4500, 6750, 8250, 10500, 15750, 21500, 28750, 42500, 79500),
    "NZD": (1790, 2490, 3490, 4490, 5990, 8990, 12900, 16900, 22900, 44900),
}

ACCOUNTS = (
    ("adyen", "TieoutEU"),
    ("adyen", "TieoutAPAC"),
    ("stripe", "acct_us"),
    ("stripe", "acct_gulf"),
    ("paypal", "EZTIEOUTEU"),
    ("paypal", "EZTIEOUTAP"),
)


def route(country: str, network: str, draw: int = 0) -> tuple[str, str]:
    """Processor and account that take a payment; ``draw`` (0..9) spreads what two could take."""
    if network == "paypal":
        return "paypal", "EZTIEOUTAP" if country in ("JP", "NZ") else "EZTIEOUTEU"
    if country == "KW":
        return "stripe", "acct_gulf"
    if country == "US" and draw < 7:
        return "stripe", "acct_us"
    return "adyen", "TieoutAPAC" if country in ("JP", "NZ") else "TieoutEU"


@dataclass(frozen=True, slots=True)
class Merchant:
    """A merchant of the payment system; ``platform_fee_bps`` is 0 for a principal."""

    merchant_id: str
    name: str
    country: str
    model: str
    settlement_currency: str
    platform_fee_bps: int


MERCHANTS = (
    Merchant("mer_0001", "Tieout Store B.V.", "NL", "principal", "EUR", 0),
    Merchant("mer_0002", "Grachtenhandel B.V.", "NL", "platform", "EUR", 850),
    Merchant("mer_0003", "Tieout Store GmbH", "DE", "principal", "EUR", 0),
    Merchant("mer_0004", "Spreewerk GmbH", "DE", "platform", "EUR", 900),
    Merchant("mer_0005", "Tieout Store SAS", "FR", "principal", "EUR", 0),
    Merchant("mer_0006", "Liffey Goods Ltd", "IE", "principal", "EUR", 0),
    Merchant("mer_0007", "Tieout Store Ltd", "GB", "principal", "GBP", 0),
    Merchant("mer_0008", "Thames Makers Ltd", "GB", "platform", "GBP", 950),
    Merchant("mer_0009", "Tieout Store AB", "SE", "principal", "EUR", 0),
    Merchant("mer_0010", "Tieout Store Inc.", "US", "principal", "USD", 0),
    Merchant("mer_0011", "Hudson Crafts LLC", "US", "platform", "USD", 1000),
    Merchant("mer_0012", "Tieout Store K.K.", "JP", "principal", "JPY", 0),
    Merchant("mer_0013", "Kamogawa Shoten K.K.", "JP", "platform", "JPY", 800),
    Merchant("mer_0014", "Tieout Store W.L.L.", "KW", "principal", "KWD", 0),
    Merchant("mer_0015", "Tieout Store NZ Ltd", "NZ", "principal", "NZD", 0),
    Merchant("mer_0016", "Rimu Trading Ltd", "NZ", "platform", "NZD", 900),
)
MERCHANTS_OF = {country: tuple(m for m in MERCHANTS if m.country == country) for country in MARKETS}


@dataclass(frozen=True, slots=True)
class Contract:
    """A contracted fee: tenths of a basis point of the gross plus a fixed part, in the settlement currency.

    ``passes_through``: that is the mark-up on interchange and scheme fee, else it is all. It holds for amounts from
    ``tier_from_minor`` on, and comes to ``minimum_minor`` at least.
    """

    processor: str
    method_type: str
    network: str
    market: str
    tenth_bps: int
    fixed_minor: int
    currency: str
    passes_through: bool = False
    tier_from_minor: int = 0
    minimum_minor: int | None = None


CONTRACTS = (
    *(
        Contract("adyen", "card", "*", country, tenth_bps, fixed, MARKETS[country].settled_in, passes_through=True)
        for country, tenth_bps, fixed in (
            ("NL", 450, 10), ("DE", 500, 10), ("FR", 500, 10), ("IE", 475, 10), ("GB", 430, 9),
        )
    ),
    *(
        Contract("adyen", "card", "*", country, tenth_bps, fixed, MARKETS[country].settled_in)
        for country, tenth_bps, fixed in (
            # Swedish sales are converted on settlement: the contract's percentage includes that mark-up.
            ("SE", 1900, 11), ("US", 1650, 12), ("JP", 1400, 16), ("NZ", 1325, 18),
        )
    ),
    *(
        Contract("adyen", "card", "amex", country, tenth_bps, fixed, MARKETS[country].settled_in)
        for country, tenth_bps, fixed in (
            ("NL", 1700, 10), ("DE", 1750, 10), ("FR", 1750, 10), ("IE", 1725, 10), ("GB", 1680, 9),
            ("SE", 2700, 11), ("US", 2450, 12), ("JP", 2200, 16), ("NZ", 2125, 18),
        )
    ),
    Contract("adyen", "bank_transfer", "ideal", "NL", 0, 29, "EUR"),
    Contract("stripe", "card", "*", "US", 2900, 30, "USD"),
    Contract("stripe", "card", "*", "US", 2700, 30, "USD", tier_from_minor=10_000),
    Contract("stripe", "card", "*", "KW", 2750, 95, "KWD", minimum_minor=300),
    Contract("paypal", "wallet", "paypal", "*", 2490, 35, "EUR"),
    Contract("paypal", "wallet", "paypal", "*", 2490, 30, "GBP"),
    Contract("paypal", "wallet", "paypal", "*", 3600, 40, "JPY"),
    Contract("paypal", "wallet", "paypal", "*", 3400, 45, "NZD"),
)  # fmt: skip

DISPUTE_FEE_MINOR = {"EUR": 1500, "GBP": 1200, "USD": 1500, "JPY": 1600, "KWD": 4500, "NZD": 2500}

# Answered once per (processor, network, country), as contracts do not change within the sandbox's days.
_TIERS_OF: dict[tuple[str, str, str], list[Contract]] = {}


def contract_of(processor: str, network: str, country: str, gross_minor: int) -> Contract:
    """The contract that prices an amount; a named network beats ``*``, and of its tiers the highest reached counts."""
    key = (processor, network, country)
    if key not in _TIERS_OF:
        settled_in = MARKETS[country].settled_in
        fitting = [
            contract
            for contract in CONTRACTS
            if contract.processor == processor
            and contract.network in (network, "*")
            and contract.market in (country, "*")
            and contract.currency == settled_in
            and contract.method_type == METHODS[network].method_type
        ]
        closest = max((contract.network != "*", contract.market != "*") for contract in fitting)
        _TIERS_OF[key] = [one for one in fitting if (one.network != "*", one.market != "*") == closest]
    reached = (contract for contract in _TIERS_OF[key] if contract.tier_from_minor <= gross_minor)
    return max(reached, key=lambda contract: contract.tier_from_minor)


def contracted_fee(contract: Contract, gross_minor: int) -> int:
    """What the contract itself charges, without what it passes through, in minor units of its currency, half-even."""
    fee = half_even(gross_minor * contract.tenth_bps, 100_000) + contract.fixed_minor
    return max(fee, contract.minimum_minor or fee)


def passed_through(network: str, gross_minor: int) -> tuple[int, int]:
    """What the issuer and the scheme take of a card payment: interchange and scheme fee in minor units."""
    interchange_tenth_bps = 300 if network == "mastercard" else 200
    return half_even(gross_minor * interchange_tenth_bps, 100_000), half_even(gross_minor * 115, 100_000) + 2


@dataclass(frozen=True, slots=True)
class BankAccount:
    """One of our accounts; ``number`` is how the bank's statement writes it."""

    currency: str
    number: str
    bank: str
    bic: str
    statement_format: str
    opening_minor: int
    first_statement: int


BANK_ACCOUNTS = {
    account.currency: account
    for account in (
        BankAccount("EUR", "NL91ABNA0417164300", "ABN AMRO", "ABNANL2A", "camt053", 84_215_077, 203),
        BankAccount("GBP", "GB29NWBK60161331926819", "NatWest", "NWBKGB2L", "camt053", 31_877_540, 198),
        BankAccount("USD", "7700012345", "Chase", "021000021", "bai2", 52_040_133, 1),
        BankAccount("JPY", "JP00051234567", "MUFG", "MZNMJPJT", "mt940", 61_904_882, 201),
        BankAccount(
            "KWD", "KW81CBKU0000000000001234560101", "Commercial Bank of Kuwait", "COMBKWKW", "mt940", 96_304_250, 205
        ),
        BankAccount("NZD", "NZ020500123456700", "BNZ", "AORGNZ2W", "mt940", 18_550_916, 199),
    )
}  # fmt: skip
