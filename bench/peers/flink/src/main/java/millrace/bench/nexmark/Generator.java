package millrace.bench.nexmark;

import millrace.bench.nexmark.NexmarkEvent.Auction;
import millrace.bench.nexmark.NexmarkEvent.Bid;
import millrace.bench.nexmark.NexmarkEvent.Person;

/** Makes the events of bench/nexmark: number n is the same in both. It is for one thread. */
public final class Generator {
    private static final long PERSONS_OF = 1;
    private static final long AUCTIONS_OF = 3;
    private static final long EVENTS_OF = 50;
    private static final long FIRST_PERSON = 1000;
    private static final long FIRST_AUCTION = 1000;
    private static final long FIRST_CATEGORY = 10;
    private static final long CATEGORIES = 5;
    private static final long ACTIVE_PEOPLE = 1000;
    private static final long OPEN_AUCTIONS = 100;
    private static final long HOT_STEP = 100;
    private static final long HOT_AUCTIONS = 2;
    private static final long HOT_SELLERS = 4;
    private static final long HOT_BIDDERS = 4;
    private static final long AHEAD_OF = 10;
    private static final int CHANNELS = 10_000;
    private static final long BASE = 1_436_918_400_000L;
    private static final String[] HOT_CHANNELS = {"Google", "Facebook", "Baidu", "Apple"};
    private static final String[] FIRST_NAMES = {"Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"};
    private static final String[] LAST_NAMES = {"Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"};
    private static final String[] CITIES = {"Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"};
    private static final String[] STATES = {"AZ", "CA", "ID", "OR", "WA", "WY"};

    private final long seed;
    private final double perMs;
    private final String[] url = new String[CHANNELS];
    private final Random r;

    /** Makes a generator of rate events per second of event time. */
    public Generator(long seed, double rate) {
        this.seed = seed;
        perMs = rate / 1000;
        r = new Random(seed);
        for (int i = 0; i < CHANNELS; i++) {
            String u = "https://www.nexmark.com/" + r.letters(5) + "/" + r.letters(5) + "/" + r.letters(5) + "/item.htm?query=1";
            url[i] = r.upTo(10) > 0 ? u + "&channel_id=" + i : u;
        }
    }

    /** Makes event number n; a bid goes into e.bid, which must be there. */
    public void fill(long n, NexmarkEvent e) {
        r.seed(seed ^ n * 0xD1342543DE82EF95L);
        r.next();
        e.n = n;
        e.at = BASE + (long) (n / perMs);
        e.auction = null;
        e.person = null;
        long rem = n % EVENTS_OF;
        if (rem < PERSONS_OF) {
            e.kind = NexmarkEvent.PERSON;
            e.person = person(n, e.at);
        } else if (rem < PERSONS_OF + AUCTIONS_OF) {
            e.kind = NexmarkEvent.AUCTION;
            e.auction = auction(n, e.at);
        } else {
            e.kind = NexmarkEvent.BID;
            bid(n, e.at, e.bid);
        }
    }

    /** The number, from 0, of the last person made before or with event n. */
    private static long lastPerson(long n) {
        return n / EVENTS_OF * PERSONS_OF + Math.min(n % EVENTS_OF, PERSONS_OF - 1);
    }

    private static long lastAuction(long n) {
        long epoch = n / EVENTS_OF;
        long offset = n % EVENTS_OF;
        if (offset < PERSONS_OF) {
            return epoch * AUCTIONS_OF - 1;
        }
        return epoch * AUCTIONS_OF + Math.min(offset - PERSONS_OF, AUCTIONS_OF - 1);
    }

    /** One of the active ones, or one soon to come. */
    private long somePerson(long n) {
        long people = lastPerson(n) + 1;
        long active = Math.min(people, ACTIVE_PEOPLE);
        return Math.max(people - active + r.upTo(active + AHEAD_OF), 0);
    }

    private long someAuction(long n) {
        long last = lastAuction(n);
        long first = Math.max(last - OPEN_AUCTIONS, 0);
        return first + r.upTo(last - first + 1 + AHEAD_OF);
    }

    private Person person(long n, long at) {
        Person p = new Person();
        p.id = lastPerson(n) + FIRST_PERSON;
        p.name = some(FIRST_NAMES) + " " + some(LAST_NAMES);
        p.email = r.letters(7) + "@" + r.letters(5) + ".com";
        p.city = some(CITIES);
        p.state = some(STATES);
        p.at = at;
        return p;
    }

    private String some(String[] of) {
        return of[(int) r.upTo(of.length)];
    }

    private Auction auction(long n, long at) {
        Auction a = new Auction();
        a.id = lastAuction(n) + FIRST_AUCTION;
        a.category = FIRST_CATEGORY + r.upTo(CATEGORIES);
        a.item = r.letters(20);
        a.initial = r.price();
        a.at = at;
        a.seller = r.upTo(HOT_SELLERS) > 0 ? lastPerson(n) / HOT_STEP * HOT_STEP : somePerson(n);
        a.seller += FIRST_PERSON;
        a.reserve = a.initial + r.price();
        long horizon = (long) (OPEN_AUCTIONS * EVENTS_OF / AUCTIONS_OF / perMs);
        a.expires = at + 1 + r.upTo(Math.max(2 * horizon, 1));
        return a;
    }

    private void bid(long n, long at, Bid b) {
        b.n = n;
        b.at = at;
        b.auction = (r.upTo(HOT_AUCTIONS) > 0 ? lastAuction(n) / HOT_STEP * HOT_STEP : someAuction(n)) + FIRST_AUCTION;
        b.bidder = (r.upTo(HOT_BIDDERS) > 0 ? lastPerson(n) / HOT_STEP * HOT_STEP + 1 : somePerson(n)) + FIRST_PERSON;
        b.price = r.price();
        if (r.upTo(2) > 0) {
            int i = (int) r.upTo(HOT_CHANNELS.length);
            b.channel = HOT_CHANNELS[i];
            b.url = url[i];
        } else {
            int i = (int) r.upTo(CHANNELS);
            b.channel = "channel-" + i;
            b.url = url[i];
        }
        b.extra = url[(int) r.upTo(CHANNELS)];
    }
}
