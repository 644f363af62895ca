package millrace.bench.nexmark;

/** A bid, an auction or a person; the others are not told of. */
public final class NexmarkEvent {
    public static final int BID = 0;
    public static final int AUCTION = 1;
    public static final int PERSON = 2;

    public long n;
    public long at;
    public int kind;
    public Bid bid;
    public Auction auction;
    public Person person;

    /** Covers number, time, kind and all fields, as bench/nexmark's does. */
    public long checksum() {
        Checksum c = new Checksum().numbers(n, at, kind);
        switch (kind) {
            case BID -> c.numbers(bid.auction, bid.bidder, bid.price, bid.at).texts(bid.channel, bid.url, bid.extra);
            case AUCTION -> c.numbers(auction.id, auction.seller, auction.category, auction.initial, auction.reserve, auction.at, auction.expires).texts(auction.item);
            default -> c.numbers(person.id, person.at).texts(person.name, person.email, person.city, person.state);
        }
        return c.value();
    }

    /** An offer for an auction, with the number of its event. */
    public static final class Bid {
        public long auction;
        public long bidder;
        public long price;
        public String channel;
        public String url;
        public long at;
        public String extra;
        public long n;
    }

    /** A thing on sale. */
    public static final class Auction {
        public long id;
        public long seller;
        public long category;
        public String item;
        public long initial;
        public long reserve;
        public long at;
        public long expires;
    }

    /** One who sells or bids. */
    public static final class Person {
        public long id;
        public String name;
        public String email;
        public String city;
        public String state;
        public long at;
    }
}
